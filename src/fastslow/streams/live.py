"""Sources whose rows come as they are made: standard input."""

import os
import select
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, ClassVar

from fastslow.streams.jsonl import Row, decode_line, decode_lines


class Waiting:
    """No row yet: a live source has had no data for POLL_S."""


WAITING = Waiting()


POLL_S = 0.2
"""Seconds."""


@dataclass(frozen=True, slots=True)
class StandardInput:
    """JSON lines piped in. To resume, the same lines are piped again."""

    live: ClassVar[bool] = True
    rereadable: ClassVar[bool] = False
    name: str = "stdin"

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        yield from decode_lines(sys.stdin.buffer, start)

    def poll(self, start: int = 0) -> Iterator[tuple[int, Row | Waiting]]:
        """As `rows`, with WAITING whenever nothing has come for POLL_S."""
        number = 0
        for line in lines_or_waiting(sys.stdin.buffer):
            if isinstance(line, Waiting):
                yield number, line
                continue
            number += 1
            if number > start and line.strip():
                yield number, decode_line(line)

    def count(self) -> None:
        return None

    def fingerprint(self) -> list[Any]:
        return ["stdin"]


def lines_or_waiting(stream: IO[bytes]) -> Iterator[bytes | Waiting]:
    """Lines of a pipe as they arrive. If it cannot be polled, reading blocks line by line."""
    try:
        handle = stream.fileno()
        select.select([handle], [], [], 0)
    except (OSError, ValueError, AttributeError):
        yield from iter(stream.readline, b"")
        return
    rest = b""
    while True:
        ready, _, _ = select.select([handle], [], [], POLL_S)
        if not ready:
            yield WAITING
            continue
        chunk = os.read(handle, 1 << 16)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest
