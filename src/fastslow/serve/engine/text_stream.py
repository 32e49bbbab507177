"""Tokens to text as they arrive, up to a stop sequence."""

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What an incomplete character decodes to."""


class TextStream:
    """The text of one answer as its tokens arrive.

    Args:
        decode: tokens to text.
        stop: texts that end the answer; they are not part of it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode, self._stop = decode, tuple(stop)
        self._tokens: list[int] = []
        self._given = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """Add a token; the text that can be shown now."""
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
        """The rest of the text."""
        return "" if self.stopped else self._more(self._decode(self._tokens))

    def _more(self, text: str) -> str:
        # A later token may change earlier text; what was shown stays.
        more = text[len(self._given) :]
        self._given += more
        return more

    def _held_back(self, text: str) -> int:
        """Characters at the end that may still change, or be the beginning of a stop sequence."""
        incomplete = len(text) - len(text.rstrip(UNFINISHED))
        started = (
            length
            for stop in self._stop
            for length in range(1, len(stop))
            if text.endswith(stop[:length])
        )
        return max([incomplete, *started])
