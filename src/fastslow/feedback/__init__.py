"""Durable store of human feedback: prompts, answers, pairs and votes.

Functions of these modules take a connection and are called through a store,

    store = Store("town-live")
    receipt = store.write(voting.vote, voter=1, pair_id=7, verdict="a", key="k1", now=time.time())

whose `write` returns once the result is on disk. They take the time as `now`, in Unix seconds.
Needs `pip install 'fastslow[serve]'`; loads without torch.
"""

from sqlalchemy import Connection

from fastslow.feedback.refusals import (
    AlreadyVoted,
    Fenced,
    KeyReused,
    Malformed,
    NotGiven,
    Refusal,
    UnknownItem,
)
from fastslow.feedback.store import Store

__all__ = [
    "AlreadyVoted",
    "Connection",
    "Fenced",
    "KeyReused",
    "Malformed",
    "NotGiven",
    "Refusal",
    "Store",
    "UnknownItem",
]
