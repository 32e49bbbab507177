"""Lines of JSON to rows: what cannot be decoded comes out with its reason."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that cannot be decoded, and why."""

    reason: str


Row = Mapping[str, Any] | Unreadable


def decode_lines(stream: IO[bytes], start: int) -> Iterator[tuple[int, Row]]:
    number = 0
    while True:
        try:
            line = stream.readline()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            if number >= start:
                yield number + 1, Unreadable(f"the compressed file is damaged here: {error}")
            return
        if not line:
            return
        number += 1
        if number <= start or not line.strip():
            continue
        yield number, decode_line(line)


def decode_line(line: bytes) -> Row:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Unreadable(f"not UTF-8 (byte {error.start} of the line)")
    except json.JSONDecodeError as error:
        return Unreadable(f"not JSON ({error.msg}, character {error.pos} of the line)")
    except (RecursionError, ValueError) as error:
        return Unreadable(f"not JSON ({error})")
    if not isinstance(row, dict):
        return Unreadable(f"a {type(row).__name__}, not an object with columns")
    return row
