"""What a source of rows is, and what comes out of one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

MAX_ROW = 1 << 24
"""Bytes of the longest row that is read; a longer one is unreadable and never held in memory."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that cannot be decoded, and why."""

    reason: str


Row = Mapping[str, Any] | Unreadable

TOO_LONG = Unreadable(f"longer than {MAX_ROW >> 20} MiB")


class Waiting:
    """No row yet: a live source has had no data for POLL_S."""


WAITING = Waiting()


class Source(Protocol):
    """Something with rows in a fixed order."""

    live: ClassVar[bool]
    """Whether rows arrive over time, so that reading may block."""
    rereadable: ClassVar[bool]
    """Whether rows can be read more than once in this process."""

    @property
    def name(self) -> str:
        """Names the source in messages; rows are `name:number`, numbers from 1."""
        ...

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        """Numbered rows after the first `start`; blank lines have a number but do not come out.

        Raises DataError where the source is damaged, ends in the middle, or is no longer what it
        was when it was opened.
        """
        ...

    def count(self) -> int | None:
        """Number of rows, or None if unknown without reading. Raises DataError as `rows`."""
        ...

    def fingerprint(self) -> list[Any]:
        """Changes whenever a row number may refer to another row."""
        ...


@runtime_checkable
class LiveSource(Source, Protocol):
    """A source whose rows come as they are made."""

    def poll(self, start: int = 0) -> Iterator[tuple[int, Row | Waiting]]:
        """As `rows`, with WAITING whenever nothing has come for POLL_S."""
        ...


@runtime_checkable
class GrowingSource(Source, Protocol):
    """A source to whose end rows may be added."""

    def continues(self, before: list[Any]) -> bool:
        """Whether its first rows are those that it had when this was its fingerprint."""
        ...

    def look(self) -> bool:
        """Take in what was added since it was opened; whether that is any row.

        Raises DataError where what was there is no longer the same.
        """
        ...


def keys_of(sources: Sequence[Source]) -> list[str]:
    """A name of its own for each source: one that is read twice has two."""
    seen: dict[str, int] = {}
    keys = []
    for source in sources:
        seen[source.name] = seen.get(source.name, 0) + 1
        again = f" ({seen[source.name]})" if seen[source.name] > 1 else ""
        keys.append(source.name + again)
    return keys


def fingerprints_of(sources: Sequence[Source]) -> dict[str, list[Any]]:
    """The fingerprint of each source, by its key. Raises DataError or OSError as these do."""
    keyed = zip(keys_of(sources), sources, strict=True)
    return {key: source.fingerprint() for key, source in keyed}


def continues(source: Source, before: list[Any]) -> bool:
    """Whether a source whose fingerprint is another by now only grew since it was this."""
    return isinstance(source, GrowingSource) and source.continues(before)
