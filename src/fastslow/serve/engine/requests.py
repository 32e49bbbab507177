"""Requests to an engine and the pieces of its answers. Loads without torch."""

import threading
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastslow.feedback import Malformed, Refusal

BASE = "base"
"""Name of the base model without an adapter."""
LONGEST_ANSWER = 1024
"""Default limit of an answer, in tokens."""


class Busy(Refusal):
    """The engine's queue is full; try again later."""


class UnknownModel(Refusal):
    """There is no such model or adapter."""


class TooLong(Malformed):
    """A prompt that leaves no room for an answer."""


class Alike(Refusal):
    """Answers that are all the same, of which none is better."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The next part of one of the answers."""

    index: int
    text: str
    """What can be shown now; some tokens show only with later ones."""
    token_ids: tuple[int, ...] = ()
    logps: tuple[float, ...] = ()
    """Log-probs of the tokens under the policy at temperature 1, nats."""
    prompt_tokens: int = 0
    finish: str | None = None
    """`stop`, `length` or `cancelled`, once the answer has ended."""


@dataclass(slots=True)
class Ask:
    """A request for one or more answers to a prompt.

    `tell` gets every piece, and if the engine fails, an exception in place of the last one. The
    engine's thread calls it, through `give`, so it must return at once; if it raises, the request
    is cancelled. `cancel` ends the request early.
    """

    messages: Sequence[Mapping[str, Any]]
    tell: Callable[[Piece | Exception], None]
    model: str = BASE
    count: int = 1
    seed: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = LONGEST_ANSWER
    stop: tuple[str, ...] = ()
    cancelled: threading.Event = field(default_factory=threading.Event)
    on_cancel: Callable[[], object] = lambda: None
    """Called on cancellation, for engines that must pass it on."""

    def cancel(self) -> None:
        """Cancel the request."""
        self.cancelled.set()
        self.on_cancel()

    def give(self, piece: Piece | Exception) -> None:
        """Pass on a piece; cancel if that fails, for example because the event loop has ended."""
        try:
            self.tell(piece)
        except Exception:
            self.cancelled.set()


class Underway:
    """Counts unfinished answers per model; threads may share it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._changed = threading.Condition()

    def total(self) -> int:
        """Number of unfinished answers."""
        return self._counts.total()

    def begin(self, ask: Ask, offered: Callable[[], Container[str]], *, most: int) -> None:
        """Count a request in. Raises UnknownModel if its model is not offered now, Busy if there
        would be more than `most` answers."""
        with self._changed:
            if ask.model not in offered():
                raise UnknownModel(f"there is no model {ask.model[:200]!r}")
            if self.total() + ask.count > most:
                raise Busy("too many answers are waiting; try again in a few seconds")
            self._counts[ask.model] += ask.count

    def end(self, ask: Ask) -> None:
        """Count a finished request out."""
        with self._changed:
            self._counts[ask.model] -= ask.count
            self._changed.notify_all()

    def retire(self, name: str, withdraw: Callable[[], None]) -> None:
        """Stop offering a model by `withdraw`, and wait for its last answer."""
        with self._changed:
            withdraw()
            while self._counts[name]:
                self._changed.wait()


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole answer."""

    text: str
    finish: str
    token_ids: tuple[int, ...]
    logps: tuple[float, ...]


def whole(pieces: Sequence[Piece], count: int) -> list[Answered]:
    """The whole answers made of these pieces."""
    answers = []
    for index in range(count):
        parts = [piece for piece in pieces if piece.index == index]
        answers.append(
            Answered(
                "".join(piece.text for piece in parts),
                next((piece.finish for piece in parts if piece.finish), "cancelled"),
                tuple(token for piece in parts for token in piece.token_ids),
                tuple(logp for piece in parts for logp in piece.logps),
            )
        )
    return answers
