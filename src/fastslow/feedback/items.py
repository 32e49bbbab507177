"""What is voted on: prompts, the answers to them, and pairs of answers."""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, exists, func, select

from fastslow.feedback.clusters import cluster_of, held_out
from fastslow.feedback.refusals import Malformed, UnknownItem
from fastslow.feedback.schema import (
    COMPARED,
    PURPOSES,
    answers,
    insert_row,
    leases,
    meta,
    pairs,
    prompts,
)

Messages = Sequence[Mapping[str, Any]]
MOST_REVIEWERS = 100
GOLD_NEEDS = 1_000_000
"""A gold question is for everyone."""
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""Characters that PostgreSQL or UTF-8 cannot hold: NUL, and surrogates."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The text of an answer, and where it came from."""

    text: str
    finish: str = "stop"
    token_ids: Sequence[int] | None = None
    tokenizer_sha256: str | None = None
    logp_sum: float | None = None
    """Log-prob of the sampled tokens, nats."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """How it was sampled."""
    seed: int | None = None
    update_id: int | None = None
    adapter_sha256: str | None = None
    model: str | None = None
    given_to: int | None = None
    """The person who asked for it."""


def add_prompt(
    connection: Connection, *, messages: Messages, domain: str, now: float, routed: bool = False
) -> int:
    """The number of a prompt; added unless the domain already has the same conversation.

    Args:
        routed: True if nobody named the domain and it was predicted from the prompt.

    Raises Malformed unless it is a list of messages that ends with one of the user.
    """
    check_messages(messages)
    key = sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()
    known = select(prompts.c.id).where(prompts.c.domain == domain, prompts.c.sha256 == key)
    if (existing := connection.scalar(known)) is not None:
        return int(existing)
    values = {
        "sha256": key, "domain": domain, "messages": [dict(message) for message in messages],
        "cluster": 0, "holdout": False, "routed": routed, "at": now,
    }  # fmt: skip
    number = insert_row(connection, prompts, values)
    cluster = cluster_of(connection, str(messages[-1]["content"]), own=number)
    holdout = held_out(connection, store_id(connection), cluster, domain)
    connection.execute(
        prompts.update().where(prompts.c.id == number).values(cluster=cluster, holdout=holdout)
    )
    return number


def storable(text: str) -> str:
    """A text with replacement characters for what no store and no reply can hold."""
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def add_answer(connection: Connection, *, prompt_id: int, answer: Answer, now: float) -> int:
    """Store an answer, with its text made `storable`; returns its number."""
    values = {
        "prompt_id": prompt_id, "text": storable(answer.text), "finish": answer.finish,
        "token_ids": None if answer.token_ids is None else list(answer.token_ids),
        "tokenizer_sha256": answer.tokenizer_sha256, "logp_sum": answer.logp_sum,
        "params": dict(answer.params), "seed": answer.seed, "update_id": answer.update_id,
        "adapter_sha256": answer.adapter_sha256, "model": answer.model,
        "given_to": answer.given_to, "at": now,
    }  # fmt: skip
    return insert_row(connection, answers, values)


def add_pair(
    connection: Connection,
    *,
    prompt_id: int,
    first: int,
    second: int,
    now: float,
    draw: random.Random,
    purpose: str = "learn",
    needs: int = 1,
    gold_verdict: str | None = None,
) -> int:
    """Put up two answers for comparison, on random sides; returns the pair's number.

    Args:
        needs: how many people's verdicts are wanted.
        gold_verdict: the right verdict of a gold question: `a` for `first`, `b` for `second`, or
            `tie`, `both_bad`.
    """
    _check_pair(connection, prompt_id, (first, second), purpose, needs, gold_verdict)
    swapped = draw.random() < 0.5
    if swapped:
        first, second = second, first
        gold_verdict = {"a": "b", "b": "a"}.get(gold_verdict or "", gold_verdict)
    values = {
        "prompt_id": prompt_id, "a": first, "b": second, "purpose": purpose, "open": True,
        "gold_verdict": gold_verdict, "at": now,
        "needs": GOLD_NEEDS if purpose == "gold" else needs,
    }  # fmt: skip
    return insert_row(connection, pairs, values)


def last_prompts(
    connection: Connection, domain: str, *, until: float, count: int
) -> list[Messages]:
    """Prompts of a domain that came until a time: held-out ones first, newest first."""
    query = (
        select(prompts.c.messages)
        .where(prompts.c.domain == domain, prompts.c.at <= until)
        .order_by(prompts.c.holdout.desc(), prompts.c.id.desc())
    )
    return list(connection.scalars(query.limit(count)))


def open_pairs(connection: Connection) -> int:
    """How many pairs lack verdicts, without gold questions."""
    query = select(func.count()).select_from(pairs).where(pairs.c.open, pairs.c.purpose != "gold")
    return int(connection.scalar(query) or 0)


def new_pairs(connection: Connection, *, most: int) -> int:
    """How many pairs nobody was given yet, without gold questions; counted up to `most`.

    Pairs that somebody has skipped lack verdicts too, but are not given to that person again.
    """
    leased = exists().where(leases.c.pair_id == pairs.c.id)
    query = select(pairs.c.id).where(pairs.c.open, pairs.c.purpose != "gold", ~leased)
    return len(connection.scalars(query.order_by(pairs.c.id.desc()).limit(most)).all())


def store_id(connection: Connection) -> str:
    """The uuid that a store got when it was made."""
    return str(connection.scalar(select(meta.c.value).where(meta.c.key == "store")))


def check_messages(messages: Messages) -> None:
    """Raises Malformed unless these are messages and the last one is the user's."""
    if not messages or not all(
        isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
        for message in messages
    ):
        raise Malformed('a prompt must be a list of {"role": ..., "content": ...} messages')
    if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise Malformed("a prompt must end with a non-empty user message")


def _check_pair(
    connection: Connection,
    prompt_id: int,
    numbers: tuple[int, int],
    purpose: str,
    needs: int,
    gold_verdict: str | None,
) -> None:
    if purpose not in PURPOSES:
        raise Malformed(f"unknown purpose {purpose!r}; use one of {', '.join(PURPOSES)}")
    if not 1 <= needs <= MOST_REVIEWERS:
        raise Malformed(f"needs is {needs}; a pair can need 1 to {MOST_REVIEWERS} verdicts")
    if (purpose == "gold") != (gold_verdict is not None):
        raise Malformed("gold questions, and no other pairs, must have a gold verdict")
    if gold_verdict is not None and gold_verdict not in COMPARED[:-1]:
        raise Malformed(f"a gold verdict must be one of {', '.join(COMPARED[:-1])}")
    known = select(answers.c.id).where(answers.c.id.in_(numbers), answers.c.prompt_id == prompt_id)
    if set(connection.scalars(known)) != set(numbers) or numbers[0] == numbers[1]:
        raise UnknownItem(
            f"answers {numbers[0]} and {numbers[1]} are not two different answers to prompt "
            f"{prompt_id}"
        )
