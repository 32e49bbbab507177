"""Rows that are piped in, and kept on disk so that none is lost where a run stops."""

import json
import os
import select
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, ClassVar

from fastslow.atomic_io import OWN
from fastslow.disk_errors import disk_errors
from fastslow.errors import DataError, StateError
from fastslow.streams.sources.file import check_encoding, file_fingerprint, read_part
from fastslow.streams.sources.json_lines import JsonLines, end_of_lines
from fastslow.streams.sources.json_row import decode_row
from fastslow.streams.sources.pieces import LineSplitter, lines_of
from fastslow.streams.sources.source import TOO_LONG, WAITING, Row, Source, Waiting

POLL_S = 0.2
"""Seconds."""
DRAINED_S = 1.0
"""Seconds for which a pipe is emptied at the end of a run at most: its writer may write on."""
CHUNK = 1 << 16
KEPT = "stdin.jsonl"
"""Where a run keeps what was piped in."""
_TOO_LONG = json.dumps(TOO_LONG.reason).encode()
"""A line that stands for one that is too long to be kept: no row either."""


class StandardInput:
    """JSON lines piped in.

    With a file to keep them in, each line is written there as it comes, and rows are numbered as
    they stand there. What is piped in later is either new from the first line on, or begins with
    all that was piped in before, which is not read again.

    Args:
        stream: the pipe.
        kept: the file; None reads the pipe once and keeps nothing.
    """

    live: ClassVar[bool] = True
    rereadable: ClassVar[bool] = False
    name = "stdin"

    def __init__(self, stream: IO[bytes], kept: Path | None = None) -> None:
        self.repeated = 0
        """Rows of this pipe that had been piped in before."""
        self._kept = kept
        self._new = _numbered(stream) if kept is None else self._keep_new(stream, kept)

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        """As every Source."""
        for number, row in self.poll(start):
            if not isinstance(row, Waiting):
                yield number, row

    def poll(self, start: int = 0) -> Iterator[tuple[int, Row | Waiting]]:
        """As `rows`, with WAITING whenever nothing has come for POLL_S."""
        number = 0
        for number, line in enumerate(self._kept_lines(), 1):
            if number > start and line is not None and line.strip():
                yield number, decode_row(line)
        for place, new in self._new:
            if isinstance(new, Waiting):
                yield number, new
            # What came when the kept lines were being read was among them.
            elif place > max(start, number) and (new is None or new.strip()):
                yield place, decode_row(new)

    def count(self) -> None:
        """Not known before the end."""
        return None

    def fingerprint(self) -> list[Any]:
        """Of what was piped in so far, which is on disk afterwards."""
        if self._kept is None or not self._kept.exists():
            return [KEPT, 0, ""]
        with self._kept.open("rb+") as file:
            os.fsync(file.fileno())
        return file_fingerprint(self._kept)

    def continues(self, before: list[Any]) -> bool:
        """As every GrowingSource."""
        if self._kept is None or not before[1]:
            return True
        return self._kept.exists() and JsonLines(self._kept).continues(before)

    def look(self) -> bool:
        """Wait for the first row that was not piped in before; whether one came."""
        for _, line in self._new:
            if not isinstance(line, Waiting) and (line is None or line.strip()):
                return True
        return False

    def keep_rest(self) -> None:
        """Keep what is in the pipe now, which nobody else could read."""
        ends = time.monotonic() + DRAINED_S
        for _, line in self._new if self._kept is not None else ():
            if isinstance(line, Waiting) or time.monotonic() > ends:
                return

    def _kept_lines(self) -> Iterator[bytes | None]:
        if self._kept is None or not self._kept.exists():
            return iter(())
        _drop_half_line(self._kept)
        return lines_of(read_part(self._kept, 0, self._kept.stat().st_size))

    def _keep_new(
        self, stream: IO[bytes], kept: Path
    ) -> Iterator[tuple[int, bytes | None | Waiting]]:
        """Lines that were not piped in before, each on its way to the disk first."""
        known: Iterator[bytes | None] | None = self._kept_lines()
        number = 0
        for lines in lines_at_once(stream):
            if isinstance(lines, Waiting):
                yield number, lines
                continue
            while known is not None and lines:
                before = next(known, None)
                if before is not None and _bare(before) == _bare(lines[0]):
                    number += 1
                    self.repeated = number
                    lines = lines[1:]
                    continue
                if before is not None and self.repeated:
                    raise _not_as_before(number + 1, kept)
                number += (before is not None) + sum(1 for _ in known)
                known = None
            # At once, as what was taken out of a pipe is nowhere else.
            _append(kept, lines)
            for line in lines:
                number += 1
                yield number, line


def repeated_rows(sources: Iterable[Source]) -> int:
    """Rows of a pipe among some sources that had been piped in before."""
    return sum(one.repeated for one in sources if isinstance(one, StandardInput))


@lru_cache(maxsize=8)
def standard_input(stream: IO[bytes], kept: Path | None) -> StandardInput:
    """The one object that reads a pipe for a file: what it has read is in no pipe any more."""
    return StandardInput(stream, kept)


def open_standard_input(kept: Path | None = None) -> StandardInput:
    """This process's standard input. Raises DataError where it has none."""
    if sys.stdin is None:
        raise DataError("standard input is closed; pipe rows in, or name a file in place of -")
    return standard_input(sys.stdin.buffer, kept)


def _numbered(stream: IO[bytes]) -> Iterator[tuple[int, bytes | None | Waiting]]:
    number = 0
    for line in lines_or_waiting(stream):
        number += not isinstance(line, Waiting)
        yield number, line


def _not_as_before(number: int, kept: Path) -> StateError:
    return StateError(
        f"row {number} of standard input is not the one that was piped in before, though those "
        f"above it are; what was is in {kept}: pipe all of it in again, or only rows that are new"
    )


def _bare(line: bytes | None) -> bytes:
    return _TOO_LONG if line is None else line.rstrip(b"\r\n")


def _append(file: Path, lines: Sequence[bytes | None]) -> None:
    with disk_errors(file), open(file, "ab", opener=_own) as out:
        out.write(b"".join(_bare(line) + b"\n" for line in lines))


def _own(name: str, flags: int) -> int:
    """People's texts are for their owner alone."""
    return os.open(name, flags, OWN)


def _drop_half_line(file: Path) -> None:
    """Cut off a line that a kill left half written; it is piped in again or not at all."""
    size = file.stat().st_size
    if (whole := end_of_lines(file, 0, size)) < size:
        with disk_errors(file):
            os.truncate(file, whole)


def lines_or_waiting(stream: IO[bytes]) -> Iterator[bytes | None | Waiting]:
    """Lines of a pipe as they arrive, None for one that is too long, and WAITING in between."""
    for lines in lines_at_once(stream):
        if isinstance(lines, Waiting):
            yield lines
        else:
            yield from lines


def lines_at_once(stream: IO[bytes]) -> Iterator[list[bytes | None] | Waiting]:
    """The same, the lines that arrive together as one list."""
    splitter, first = LineSplitter(), True
    for chunk in _chunks_or_waiting(stream):
        if isinstance(chunk, Waiting):
            yield chunk
            continue
        if first:
            check_encoding(chunk, "standard input")
        first = False
        yield [*splitter.feed(chunk)]
    yield [*splitter.end()]


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
