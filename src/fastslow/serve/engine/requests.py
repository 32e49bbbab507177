"""What an engine is asked, and what it tells piece by piece. Loads without torch."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastslow.feedback import Refusal

WEIGHTS = "adapter_model.safetensors"
"""The file in an adapter's folder whose hash the adapter is known by."""
BASE = "base"
"""Names the bare model in place of an adapter."""


class Busy(Refusal):
    """More is waiting than the engine takes; ask again later."""


class UnknownModel(Refusal):
    """There is no such model or adapter."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What was added to one of the answers."""

    index: int
    text: str
    """What can be shown by now; some tokens show only with later ones."""
    token_ids: tuple[int, ...] = ()
    logps: tuple[float, ...] = ()
    """Of the tokens, under the policy at temperature 1, nats."""
    prompt_tokens: int = 0
    finish: str | None = None
    """`stop`, `length` or `cancelled`, once the answer has ended."""


@dataclass(slots=True)
class Ask:
    """Answers that are wanted to one prompt.

    `tell` gets every piece, and an exception in the place of the last one if the engine fails; it
    is called by the engine's thread and must return at once; where it raises, the request is given
    up. `cancelled` ends it early.
    """

    messages: Sequence[Mapping[str, Any]]
    tell: Callable[[Piece | Exception], None]
    model: str = BASE
    count: int = 1
    seed: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole answer."""

    text: str
    finish: str
    token_ids: tuple[int, ...]
    logps: tuple[float, ...]


def whole(pieces: Sequence[Piece], count: int) -> list[Answered]:
    """The answers that pieces make up."""
    found = []
    for index in range(count):
        own = [piece for piece in pieces if piece.index == index]
        found.append(
            Answered(
                "".join(piece.text for piece in own),
                next((piece.finish for piece in own if piece.finish), "cancelled"),
                tuple(token for piece in own for token in piece.token_ids),
                tuple(logp for piece in own for logp in piece.logps),
            )
        )
    return found
