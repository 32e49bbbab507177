"""Sources whose rows come as they are made: standard input."""

import os
import select
import sys
from collections.abc import Iterator
from typing import IO, Any, ClassVar

from fastslow.streams.sources.file import check_encoding
from fastslow.streams.sources.json_row import decode_row
from fastslow.streams.sources.pieces import LineSplitter
from fastslow.streams.sources.source import WAITING, Row, Waiting

POLL_S = 0.2
"""Seconds."""
CHUNK = 1 << 16


class StandardInput:
    """JSON lines piped in. To resume, the same lines are piped again."""

    live: ClassVar[bool] = True
    rereadable: ClassVar[bool] = False
    name = "stdin"

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        """As every Source."""
        for number, row in self.poll(start):
            if not isinstance(row, Waiting):
                yield number, row

    def poll(self, start: int = 0) -> Iterator[tuple[int, Row | Waiting]]:
        """As `rows`, with WAITING whenever nothing has come for POLL_S."""
        number = 0
        for line in lines_or_waiting(sys.stdin.buffer):
            if isinstance(line, Waiting):
                yield number, line
                continue
            number += 1
            if number > start and (line is None or line.strip()):
                yield number, decode_row(line)

    def count(self) -> None:
        """Not known before the end."""
        return None

    def fingerprint(self) -> list[Any]:
        """What was piped in is not known any more."""
        return ["stdin"]


def lines_or_waiting(stream: IO[bytes]) -> Iterator[bytes | None | Waiting]:
    """Lines of a pipe as they arrive, None for one that is too long, and WAITING in between."""
    splitter, first = LineSplitter(), True
    for chunk in _chunks_or_waiting(stream):
        if isinstance(chunk, Waiting):
            yield chunk
            continue
        if first:
            check_encoding(chunk, "standard input")
        first = False
        yield from splitter.feed(chunk)
    yield from splitter.end()


def _chunks_or_waiting(stream: IO[bytes]) -> Iterator[bytes | Waiting]:
    """If the pipe cannot be polled, reading blocks line by line."""
    try:
        handle = stream.fileno()
        select.select([handle], [], [], 0)
    except (OSError, ValueError, AttributeError):
        while line := stream.readline(CHUNK):
            yield line
        return
    while True:
        ready, _, _ = select.select([handle], [], [], POLL_S)
        if not ready:
            yield WAITING
            continue
        chunk = os.read(handle, CHUNK)
        if not chunk:
            return
        yield chunk
