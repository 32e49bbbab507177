"""Tokens to text as they come, up to a stop sequence."""

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What half a character decodes to."""


class TextStream:
    """The text of one answer while its tokens come.

    Args:
        decode: tokens to text.
        stop: texts at which the answer ends; they are not part of it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode, self._stop = decode, tuple(stop)
        self._tokens: list[int] = []
        self._given = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """What can be shown with one more token."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        for stop in self._stop:
            place = text.find(stop)
            if place >= 0:
                self.stopped, text = True, text[:place]
        if not self.stopped:
            text = text[: len(text) - self._held_back(text)]
        return self._more(text)

    def end(self) -> str:
        """What is left to be shown."""
        return "" if self.stopped else self._more(self._decode(self._tokens))

    def _more(self, text: str) -> str:
        # A tokenizer may change what it wrote before; what was shown stays.
        more = text[len(self._given) :]
        self._given += more
        return more

    def _held_back(self, text: str) -> int:
        """Characters at the end that may still change, or be the beginning of a stop sequence."""
        half = len(text) - len(text.rstrip(UNFINISHED))
        begun = (
            length
            for stop in self._stop
            for length in range(1, len(stop))
            if text.endswith(stop[:length])
        )
        return max([half, *begun])
