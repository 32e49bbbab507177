"""Chunks of bytes cut into lines, without ever holding more of one than a row may have."""

from collections.abc import Iterable, Iterator

from fastslow.streams.sources.source import MAX_ROW


class Piece:
    """Bytes gathered part by part; beyond MAX_ROW they are counted but not kept."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes so far, kept or not."""
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        """Append a part."""
        self.size += len(part)
        if self.size <= MAX_ROW:
            self._parts.append(part)
        else:
            self._parts.clear()

    def take(self) -> bytes | None:
        """All that was gathered, or None where that was too much; empty afterwards."""
        whole = b"".join(self._parts) if self.size <= MAX_ROW else None
        self._parts, self.size = [], 0
        return whole


class LineSplitter:
    r"""Cuts bytes that arrive in chunks into lines that end in \n, \r\n or \r, ends included.

    A line of more than MAX_ROW bytes comes out as None.
    """

    def __init__(self) -> None:
        self._line = Piece()
        self._held = b""

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        r"""The lines that a chunk completes. A \r at its end waits for a \n that may follow."""
        chunk = self._held + chunk
        self._held = b"\r" if chunk.endswith(b"\r") else b""
        for part in chunk[: len(chunk) - len(self._held)].splitlines(keepends=True):
            self._line.add(part)
            if part.endswith((b"\n", b"\r")):
                yield self._line.take()

    def end(self) -> Iterator[bytes | None]:
        """The last line, where no line end follows it."""
        self._line.add(self._held)
        self._held = b""
        if self._line.size:
            yield self._line.take()


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    """The lines in some chunks, as a LineSplitter cuts them."""
    splitter = LineSplitter()
    for chunk in chunks:
        yield from splitter.feed(chunk)
    yield from splitter.end()
