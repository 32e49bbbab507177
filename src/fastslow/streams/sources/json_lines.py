"""Files of JSON lines: one row a line, whatever the line ends. Lines may be added to them."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from fastslow.streams.sources.file import (
    CHUNK,
    FileSource,
    Stamp,
    ends_in_the_middle,
    file_fingerprint,
    is_gzip,
    read_chunks,
    read_part,
)
from fastslow.streams.sources.json_row import decode_row, lacks_its_end
from fastslow.streams.sources.pieces import lines_of
from fastslow.streams.sources.source import Row, Unreadable

LINE_ENDS = (b"\n", b"\r")


class JsonLines(FileSource):
    """A .jsonl file, compressed or not; any line ending, with or without a byte order mark.

    Its rows are those that it had when it was opened. One that is not compressed may grow
    meanwhile.

    Args:
        path: the file.
        follow: a line that has no end yet is not a row yet.
    """

    def __init__(self, path: Path, *, follow: bool = False) -> None:
        super().__init__(path)
        self._seen = self.stamp
        """What it had when its rows were last found to be the same."""
        self._follow = follow
        self._end = self._new_end(0)
        self._print: list[Any] | None = None
        self._before = (0, 0)
        """Rows, and the bytes that they are, after which reading may begin."""

    def continues(self, before: list[Any]) -> bool:
        """As every GrowingSource."""
        now = self.fingerprint()
        if self._packed or now == before:
            return now == before
        return before[0] == self.path.name and before[1] <= self._end and self._begins_with(before)

    def look(self) -> bool:
        """As every GrowingSource."""
        if self.stamp.fits:
            return False
        self._check_same()
        self.stamp = self._seen = Stamp(self.path)
        end = self._new_end(self._end)
        more = end > self._end
        if more:
            self._end, self._print = end, None
            self.fingerprint()
        return more

    def fingerprint(self) -> list[Any]:
        """Name, size and hash of what it had when it was opened."""
        if self._print is None:
            self._print = file_fingerprint(self.path, self._end)
        return list(self._print)

    @cached_property
    def _packed(self) -> bool:
        return is_gzip(self.path)

    def _check_same(self) -> None:
        if self._seen.fits:
            self.fingerprint()
            return
        now = Stamp(self.path)
        may_have_grown = not self._packed and now.size > self._end
        # Where it has no fingerprint yet, nothing was read of it either.
        if not may_have_grown or not self._begins_with(self.fingerprint()):
            self.stamp.check()
        self._seen = now

    def _begins_with(self, known: list[Any]) -> bool:
        """Whether its beginning has a fingerprint, and what follows is no part of the last row."""
        size = known[1]
        return file_fingerprint(self.path, size) == known and self._line_ends_at(size)

    def _line_ends_at(self, place: int) -> bool:
        """Whether what was added behind a place does not belong to the line before it."""
        around = b"".join(read_part(self.path, max(0, place - 1), place + 1))
        return place == 0 or any(bytes([byte]) in LINE_ENDS for byte in around) or len(around) < 2

    def _new_end(self, known: int) -> int:
        """Bytes that are rows: of a file that is followed, up to the last line end."""
        whole = not self._follow or self._packed
        return self.stamp.size if whole else end_of_lines(self.path, known, self.stamp.size)

    def _lines(self) -> Iterator[bytes | None]:
        if self._packed:
            return lines_of(read_chunks(self.path))
        start = self._before[1]
        # A line end may come in two parts, of which the second is no line.
        start += start > 0 and b"".join(read_part(self.path, start - 1, start + 1)) == b"\r\n"
        return lines_of(read_part(self.path, start, self._end))

    def _rows(self, start: int) -> Iterator[tuple[int, Row]]:
        if start < self._before[0]:
            self._before = (0, 0)
        number = before = self._before[0]
        for number, line in enumerate(self._lines(), before + 1):
            if number <= start or (line is not None and not line.strip()):
                continue
            row = decode_row(line)
            if isinstance(row, Unreadable) and _is_cut(line):
                raise ends_in_the_middle(self.path)
            yield number, row
        if self._follow and not self._packed:
            self._before = (number, self._end)

    def _count(self) -> int:
        number, line = 0, None
        self._before = (0, 0)
        for number, line in enumerate(self._lines(), 1):  # noqa: B007
            pass
        if _is_cut(line) and isinstance(decode_row(line), Unreadable):
            raise ends_in_the_middle(self.path)
        return number


def end_of_lines(path: Path, start: int, end: int) -> int:
    """The place behind the last line end between two places of a file, or the first of them."""
    while end > start:
        first = max(start, end - CHUNK)
        part = b"".join(read_part(path, first, end))
        last = max(part.rfind(mark) for mark in LINE_ENDS)
        if last >= 0:
            return first + last + 1
        end = first
    return start


def _is_cut(line: bytes | None) -> bool:
    """Whether an undecodable line is half a row: an object begins, and the file ends first."""
    if line is None or line.endswith(LINE_ENDS):
        return False
    text = line.strip()
    if not text.startswith((b"{", b"\xef\xbb\xbf{")):
        return False
    return not text.endswith(b"}") or lacks_its_end(text)
