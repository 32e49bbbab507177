"""Files that are one JSON array of rows, read item by item."""

import re
from collections.abc import Iterator
from pathlib import Path

from fastslow.errors import DataError
from fastslow.streams.sources.file import FileSource, ends_in_the_middle, read_chunks
from fastslow.streams.sources.json_lines import JsonLines
from fastslow.streams.sources.json_row import decode_row
from fastslow.streams.sources.pieces import Piece
from fastslow.streams.sources.source import Row

BOM = b"\xef\xbb\xbf"
_MARK = re.compile(rb'["\[\]{},]')
_MARK_IN_TEXT = re.compile(rb'["\\]')


def json_file(path: Path) -> FileSource:
    """The source of a .json file, which holds an array of rows, or lines.

    Raises DataError where it is something else.
    """
    lines = JsonLines(path)  # First, as nothing but a regular file can be looked into.
    start = next(read_chunks(path), b"").removeprefix(BOM).strip()
    if start.startswith(b"["):
        return JsonArray(path)
    first, *others = start.splitlines() or [b""]
    if others and first.startswith(b"{") and not first.rstrip().endswith(b"}"):
        raise DataError(
            f"{path} is one JSON object, not rows; write an array of rows, or one row a line "
            "(pandas: to_json(path, orient='records', lines=True); datasets: to_json(path))"
        )
    return lines


class JsonArray(FileSource):
    """A .json file that is one array, compressed or not. An item that is no row is unreadable, and
    those after it are still read."""

    def _rows(self, start: int) -> Iterator[tuple[int, Row]]:
        for number, item in enumerate(self._items(), 1):
            if number > start:
                yield number, decode_row(item)

    def _count(self) -> int:
        return sum(1 for _ in self._items())

    def _items(self) -> Iterator[bytes | None]:
        scanner = _ArrayScanner()
        for chunk in read_chunks(self.path):
            yield from scanner.feed(chunk)
            if scanner.rest.strip():
                raise DataError(f"{self.path} has more after the end of its array; it is not JSON")
        if not scanner.ended:
            raise ends_in_the_middle(self.path)


class _ArrayScanner:
    """Cuts the bytes of an array into those of its items, by brackets, commas and quotes alone."""

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""
        """What came after the array."""
        self._item = Piece()
        self._some = False
        self._depth = 0
        self._in_text = self._escaped = False

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        """The items that a chunk completes."""
        taken = position = 0
        while not self.ended and (mark := self._next_mark(chunk, position)) is not None:
            place, kind = mark
            position = place + 1
            if kind in b"[{":
                self._depth += 1
                if self._depth == 1:  # What comes before is a byte order mark, or blank.
                    taken = position
                continue
            if self._depth == 1 and kind in b",]}":
                self._item.add(chunk[taken:place])
                taken = position
                yield from self._completed(more=kind in b",")
            if kind in b"]}":
                self._depth -= 1
                self.ended = self._depth == 0
        if self.ended:
            self.rest = chunk[taken:]
        elif self._depth:
            self._item.add(chunk[taken:])

    def _completed(self, *, more: bool) -> Iterator[bytes | None]:
        """The item before a comma, or before the end: a blank one there is an empty array's."""
        item = self._item.take()
        if more or self._some or item is None or item.strip():
            yield item
        self._some = True

    def _next_mark(self, chunk: bytes, start: int) -> tuple[int, bytes] | None:
        """Place and byte of the next bracket or comma outside of quotes."""
        while True:
            if self._escaped and start < len(chunk):
                start, self._escaped = start + 1, False
            pattern = _MARK_IN_TEXT if self._in_text else _MARK
            found = pattern.search(chunk, start)
            if found is None:
                return None
            start = found.end()
            if found[0] == b'"':
                self._in_text = not self._in_text
            elif found[0] == b"\\":
                self._escaped = True
            else:
                return found.start(), found[0]
