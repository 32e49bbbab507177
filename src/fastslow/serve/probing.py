"""Whether an engine says what the learner said, with the same adapter."""

import queue
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastslow.errors import StateError
from fastslow.serve.engine.requests import Answered, Ask, Piece, whole

if TYPE_CHECKING:
    from fastslow.serve.answering import Engine

MOST_APART = 0.05
"""Nats per token, on average: kernels and precisions differ by less, another policy by more."""
PATIENCE = 60.0
"""Seconds for one answer."""


def check_probes(engine: "Engine", model: str, probes: Sequence[Mapping[str, Any]]) -> None:
    """Have an engine give the answers that an update's record holds.

    Only the tokens up to where another one is likelier there are compared. An engine that does not
    say its tokens cannot be checked. Raises StateError where it says something else.
    """
    apart, compared, told = 0.0, 0, False
    for probe in probes:
        answer = _answer(engine, model, probe)
        told |= bool(answer.token_ids)
        for own, token, logp, said in zip(
            answer.token_ids, probe["tokens"], probe["logps"], answer.logps, strict=False
        ):
            if own != token:
                break
            apart, compared = apart + abs(said - logp), compared + 1
    if told and (not compared or apart / compared > MOST_APART):
        by = f"log-probs {apart / compared:.2f} nats apart" if compared else "other tokens"
        raise StateError(
            f"the engine does not say what was learned with {model}: {by} per token, at most "
            f"{MOST_APART} may be; has it the same base, chat template and adapter?"
        )


def _answer(engine: "Engine", model: str, probe: Mapping[str, Any]) -> Answered:
    """The likeliest answer. Raises what the engine raises, StateError where it says nothing."""
    got = queue.SimpleQueue[Piece | Exception]()
    ask = Ask(probe["messages"], got.put, model, temperature=0.0, max_tokens=len(probe["tokens"]))
    engine.submit(ask)
    pieces = list[Piece]()
    while not pieces or pieces[-1].finish is None:
        try:
            piece = got.get(timeout=PATIENCE)
        except queue.Empty:
            ask.cancel()
            raise StateError(f"{model} does not answer within {PATIENCE:.0f} s") from None
        if isinstance(piece, Exception):
            raise piece
        pieces.append(piece)
    return whole(pieces, 1)[0]
