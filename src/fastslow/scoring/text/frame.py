"""What a chat template that only copies words writes around them, found once for the same roles."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from fastslow.errors import EncodingError
from fastslow.records import Message

MARK = "zqx"
EDGE = "\x0b"
"""A blank that no template writes: where it is lost, words are trimmed."""


class Render(Protocol):
    """The text of some turns, as the template writes it."""

    def __call__(self, turns: Sequence[Message], *, generation_prompt: bool) -> str: ...


@dataclass(frozen=True, slots=True)
class Frame:
    """The text around the words of turns of certain roles."""

    pieces: tuple[str, ...]
    """Before the first turn's words, between two turns' words, behind the last."""
    trimmed: tuple[bool, ...]
    """Whether each turn's words lose the blanks around them."""

    def around(self, words: Sequence[str]) -> str:
        """The text with the words of each turn."""
        own = (
            word.strip() if trim else word for word, trim in zip(words, self.trimmed, strict=True)
        )
        return "".join(chain.from_iterable(zip(self.pieces, chain(own, ("",)), strict=True)))

    def continues(self, other: "Frame") -> bool:
        """Whether it writes all that another one does of its turns, but for blanks at the end."""
        count = len(other.trimmed)
        same = self.pieces[:count] == other.pieces[:count] and self.trimmed[:count] == other.trimmed
        return same and self.pieces[count].startswith(other.pieces[count].rstrip())


class Frames:
    """The frames of a template that only copies words, each made when it is first asked for."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._made: dict[tuple[tuple[str, ...], bool], Frame | None] = {}

    def frame(self, roles: tuple[str, ...], *, generation_prompt: bool = False) -> Frame | None:
        """The frame of turns of some roles; None where the template refuses or drops one."""
        key = roles, generation_prompt
        if key not in self._made:
            self._made[key] = self._make(roles, generation_prompt)
        return self._made[key]

    def _make(self, roles: tuple[str, ...], generation_prompt: bool) -> Frame | None:
        # Nobody who quotes or escapes words leaves these as they are.
        marks = [f"\"'\n\\<{MARK}{place}>" for place in range(len(roles))]
        turns = [
            Message(role, f"{EDGE}{mark}{EDGE}") for role, mark in zip(roles, marks, strict=True)
        ]
        try:
            rest = self._render(turns, generation_prompt=generation_prompt)
        except EncodingError:
            return None
        pieces, trimmed = [], []
        for mark in marks:
            before, found, rest = rest.partition(mark)
            whole = before.endswith(EDGE) and rest.startswith(EDGE)
            pieces.append(before[:-1] if whole else before)  # An edge on one side only is left.
            trimmed.append(not whole)
            rest = rest[whole:]
            if not found:
                return None
        pieces.append(rest)
        left = any(EDGE in piece or MARK in piece for piece in pieces)
        return None if left else Frame(tuple(pieces), tuple(trimmed))
