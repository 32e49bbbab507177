"""The rows of some sources in blocks, and the position among them.

The position is a row of each source, so that what is added to one of them, or beside them, is read
once and nothing before it is read again. A block that was begun is made of the same rows again.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from fastslow.streams.sources import (
    WAITING,
    Followed,
    LiveSource,
    Row,
    Source,
    StandardInput,
    Waiting,
    keys_of,
)
from fastslow.streams.sources.live import POLL_S

READ_AHEAD = 1024


@dataclass(frozen=True, slots=True)
class Placed:
    """A row, and where it stands."""

    key: str
    """Of its source."""
    index: int
    number: int
    row: Row
    where: str
    """For messages."""


class Blocks:
    """Reads rows in blocks from a position on.

    Args:
        sources: read in sequence; of those that are followed the end is never.
        least: rows of a block. Where they come over time it is no larger than that or one row, so
            that none waits for others.
        poll: yield WAITING whenever a live source has had no data for a while.
    """

    def __init__(self, sources: list[Source] | Followed, *, least: int, poll: bool) -> None:
        self._follow = sources if isinstance(sources, Followed) else None
        self._sources = sources.sources if isinstance(sources, Followed) else sources
        self._poll = poll
        self.live = self._follow is not None or any(source.live for source in self.sources)
        """Whether rows may come while it is read."""
        self.size = (least or 1) if self.live else max(least, READ_AHEAD)
        self.last = (0, 0)
        """Place of the last source in the block before, and its last row there."""
        self._at: dict[str, int] = {}
        """The last row of each source that was in a block before this one."""
        self._begun: list[tuple[str, int]] = []
        """Of the present block, the last row of each stretch of a source, in the order of reading;
        nothing before it began."""

    @property
    def sources(self) -> list[Source]:
        """What is read, in this order."""
        return self._sources if self._follow is None else self._follow.sources

    def __iter__(self) -> Iterator[list[Placed] | Waiting]:
        """Blocks from the position on, a begun one first; the last may be shorter."""
        if self._begun:
            yield self._begun_block()
        block: list[Placed] = []
        for row in self._rows_after(self._at):
            if isinstance(row, Waiting):
                yield row
                continue
            block.append(row)
            if len(block) == self.size:
                yield block
                block = []
        if block:
            yield block

    def begin(self, block: list[Placed]) -> None:
        """A block begins: from now on it is made of these rows."""
        stretches = groupby(block, key=attrgetter("key"))
        self._begun = [(key, [*rows][-1].number) for key, rows in stretches]

    def end(self, block: list[Placed]) -> None:
        """The position is behind a block."""
        self._at.update(self._begun)
        self._begun = []
        if block:
            self.last = (block[-1].index, block[-1].number)

    def restart(self) -> None:
        """The position is before the first row."""
        self._at, self._begun, self.last = {}, [], (0, 0)

    def first(self) -> list[Placed]:
        """The first block of all, without moving."""
        return next(iter(Blocks(self.sources, least=self.size, poll=False)), [])  # type: ignore[arg-type]

    def count_rows(self) -> int | None:
        """Rows of all sources together, or None where the end is not known."""
        if self._follow is not None:
            return None
        counts = [source.count() for source in self.sources]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def new_rows(self) -> dict[str, int]:
        """Rows behind the position, by source, of those that can be counted."""
        counts = {key: source.count() for key, source in self._keyed()}
        left = {key: count - self._at.get(key, 0) for key, count in counts.items() if count}
        return {key: count for key, count in left.items() if count > 0}

    def keep_rest(self) -> None:
        """Keep what was piped in and not read yet."""
        for source in self.sources:
            if isinstance(source, StandardInput):
                source.keep_rest()

    def state(self) -> dict[str, Any]:
        """The position, as JSON."""
        begun = [list(stretch) for stretch in self._begun]
        return {"at": dict(self._at), "begun": begun, "last": list(self.last)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go to a position that `state()` gave."""
        self._at = dict(state["at"])
        self._begun = [(key, last) for key, last in state["begun"]]
        self.last = (state["last"][0], state["last"][1])

    def _rows_after(self, at: Mapping[str, int]) -> Iterator[Placed | Waiting]:
        """Rows behind those in `at`, source by source; where more may come, it is waited for."""
        at = dict(at)
        while True:
            for index, (key, source) in enumerate(self._keyed()):
                for number, row in self._read(source)(at.get(key, 0)):
                    if isinstance(row, Waiting):
                        yield row
                    else:
                        at[key] = number
                        yield _placed(key, index, source, number, row)
            if self._follow is None:
                return
            if not self._follow.look():
                yield WAITING
                time.sleep(POLL_S)

    def _begun_block(self) -> list[Placed]:
        """The rows of the block that was begun, as they were read then, without those that were
        taken back since: all may be."""
        at, block = dict(self._at), list[Placed]()
        places = {key: (index, source) for index, (key, source) in enumerate(self._keyed())}
        for key, last in self._begun:
            index, source = places[key]
            for number, row in source.rows(at.get(key, 0)):
                if number <= last:
                    block.append(_placed(key, index, source, number, row))
                if number >= last:  # No further: a pipe would be waited for.
                    break
            at[key] = last
        return block

    def _read(self, source: Source) -> Callable[[int], Iterator[tuple[int, Row | Waiting]]]:
        if self._poll and isinstance(source, LiveSource):
            return source.poll
        return source.rows

    def _keyed(self) -> list[tuple[str, Source]]:
        return [*zip(keys_of(self.sources), self.sources, strict=True)]


def _placed(key: str, index: int, source: Source, number: int, row: Row) -> Placed:
    return Placed(key, index, number, row, f"{source.name}:{number}")
