"""Checks that an engine answers with an adapter as the learner did."""

import queue
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastslow.errors import StateError
from fastslow.serve.engine.requests import Answered, Ask, Piece, whole

if TYPE_CHECKING:
    from fastslow.serve.answering import Engine

MOST_APART = 0.05
"""Largest mean difference of log-probs, nats: other kernels and precisions differ by less,
another policy by more."""
PATIENCE = 60.0
"""Seconds to wait for one answer."""


def check_probes(engine: "Engine", model: str, probes: Sequence[Mapping[str, Any]]) -> None:
    """Compare an engine's greedy answers with those in an update's record.

    Tokens are compared up to the first that differs. An engine that returns no token ids cannot be
    checked. Raises StateError if the engine answers differently.
    """
    difference, compared, has_tokens = 0.0, 0, False
    for probe in probes:
        answer = _answer(engine, model, probe)
        has_tokens |= bool(answer.token_ids)
        for token, expected_token, expected_logp, logp in zip(
            answer.token_ids, probe["tokens"], probe["logps"], answer.logps, strict=False
        ):
            if token != expected_token:
                break
            difference, compared = difference + abs(logp - expected_logp), compared + 1
    if has_tokens and (not compared or difference / compared > MOST_APART):
        how = (
            f"log-probs differ by {difference / compared:.2f} nats per token (at most {MOST_APART})"
            if compared
            else "it generates other tokens"
        )
        raise StateError(
            f"the engine does not answer with {model} as the learner did: {how}; check that it has "
            "the same base, chat template and adapter"
        )


def _answer(engine: "Engine", model: str, probe: Mapping[str, Any]) -> Answered:
    """The greedy answer. Raises the engine's errors, StateError if it does not answer in time."""
    arrived = queue.SimpleQueue[Piece | Exception]()
    ask = Ask(
        probe["messages"], arrived.put, model, temperature=0.0, max_tokens=len(probe["tokens"])
    )
    engine.submit(ask)
    pieces = list[Piece]()
    while not pieces or pieces[-1].finish is None:
        try:
            piece = arrived.get(timeout=PATIENCE)
        except queue.Empty:
            ask.cancel()
            raise StateError(f"{model} does not answer within {PATIENCE:.0f} s") from None
        if isinstance(piece, Exception):
            raise piece
        pieces.append(piece)
    return whole(pieces, 1)[0]
