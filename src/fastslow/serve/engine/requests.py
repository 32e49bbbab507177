"""What an engine is asked, and what it tells piece by piece. Loads without torch."""

import threading
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastslow.feedback import Malformed, Refusal

BASE = "base"
"""Names the bare model in place of an adapter."""
LONGEST_ANSWER = 1024
"""Tokens of an answer where nobody says another limit."""


class Busy(Refusal):
    """More is waiting than the engine takes; ask again later."""


class UnknownModel(Refusal):
    """There is no such model or adapter."""


class TooLong(Malformed):
    """A prompt that leaves no room for an answer."""


class Alike(Refusal):
    """Answers that say the same, of which none is better."""


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
    is called by the engine's thread, through `give`, and must return at once; where it raises, the
    request is given up. `cancel` ends it early.
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
    """Is called when it is, for who has to tell somebody."""

    def cancel(self) -> None:
        """Want no more of it."""
        self.cancelled.set()
        self.on_cancel()

    def give(self, piece: Piece | Exception) -> None:
        """Tell a piece; who cannot be told any more, as their loop has ended, is gone."""
        try:
            self.tell(piece)
        except Exception:
            self.cancelled.set()


class Underway:
    """Answers that are not over, by who gives them; threads may share it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._changed = threading.Condition()

    def total(self) -> int:
        """How many there are."""
        return self._counts.total()

    def begin(self, ask: Ask, offered: Callable[[], Container[str]], *, most: int) -> None:
        """Count a request in. Raises UnknownModel for who is not offered now, Busy where there
        would be more than the most."""
        with self._changed:
            if ask.model not in offered():
                raise UnknownModel(f"there is no model {ask.model[:200]!r}")
            if self.total() + ask.count > most:
                raise Busy("too many answers are waited for; try again in a few seconds")
            self._counts[ask.model] += ask.count

    def end(self, ask: Ask) -> None:
        """A request is over."""
        with self._changed:
            self._counts[ask.model] -= ask.count
            self._changed.notify_all()

    def retire(self, name: str, withdraw: Callable[[], None]) -> None:
        """Have somebody offered no more, and wait for their last answer."""
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
