"""The stream of examples: rows in order, or shuffled within blocks, resumable at any example.

Rows are read in blocks. A block is checked for unusable rows before the first of its examples
comes out, so that a small file full of faults stops a run before it has learned anything.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from fastslow.errors import ConfigError, DataError, did_you_mean
from fastslow.records import Example, Pair
from fastslow.streams.block_examples import BlockExamples, ExampleMaker
from fastslow.streams.blocks import READ_AHEAD, Blocks, Placed
from fastslow.streams.formats import COLUMNS
from fastslow.streams.sources import (
    Followed,
    Row,
    Source,
    Waiting,
    repeated_rows,
    waiting_votes,
)

SHOWN = 5
LONGEST_REASON = 300
"""Characters of a reason that are shown: it may quote what the row holds."""

Rows = list[tuple[str, Row]]
"""Rows of a block, each with where it stands."""
MadeOf = Callable[[Iterable[Rows]], Iterator[BlockExamples]]
"""What examples are made of blocks of rows, one after another."""


@dataclass(slots=True)
class RowCounts:
    """What has been read so far."""

    read: int = 0
    invalid: int = 0
    skipped: int = 0
    """Rows from which this kind of objective has nothing to learn, as a tie shows nothing."""
    shown: list[str] = field(default_factory=list)
    """The first few unusable rows, as `file:row: reason`."""

    def add_invalid(self, source: str, reason: str) -> None:
        self.invalid += 1
        if len(self.shown) < SHOWN:
            brief = reason[:LONGEST_REASON] + "..." * (len(reason) > LONGEST_REASON)
            self.shown.append(f"{source}: {brief}")

    def copy(self) -> "RowCounts":
        return replace(self, shown=list(self.shown))


class ExampleStream:
    """Iterates over the examples of some sources, `epochs` times over.

    Args:
        sources: read in sequence; of those that are followed the end is never.
        kind: `pairs`, `rankings`, `ratings`, `demonstrations` or `prompts`; rows of other kinds
            become examples of this one where they can.
        domain: the domain of examples whose row names none.
        columns: what columns are called in the rows, by what they mean.
        shuffle: examples are shuffled within blocks of this many; 0 keeps the order.
        seed: of the shuffling; each epoch and block has its own order.
        max_bad_fraction: more unusable rows than this share raise DataError.
        skip: number of examples skipped at the beginning.
        poll: yield WAITING whenever a live source has had no data for a while.

    `state()` is the position after the last example; a stream continues from there after
    `load_state()`.
    """

    def __init__(
        self,
        sources: list[Source] | Followed,
        *,
        kind: str = "pairs",
        domain: str | None = None,
        columns: Mapping[str, str] | None = None,
        shuffle: int = 0,
        seed: int = 0,
        max_bad_fraction: float = 0.01,
        epochs: int = 1,
        skip: int = 0,
        poll: bool = False,
    ) -> None:
        self.rows = Blocks(sources, least=shuffle, poll=poll)
        """Where the examples come from."""
        self.counts = RowCounts()
        self.epoch = 0
        self.num_consumed = 0
        """Pairs read so far, including skipped ones."""
        self._kind = kind
        self._columns = dict(columns or {})
        _check_columns(self._columns)
        self.make = ExampleMaker(kind, domain, self._columns)
        """What makes examples of the rows of a block."""
        self.made_of: MadeOf = partial(map, self.make)
        """What has that done for all blocks; another may do more, and do it elsewhere."""
        self._shuffle = shuffle
        self._seed = seed
        self._max_bad_fraction = max_bad_fraction
        self._epochs = epochs
        self._skip = skip
        self._counts_at_block = RowCounts()
        self._taken = 0
        if epochs > 1 and not all(source.rereadable for source in self.sources):
            raise DataError("standard input can be read once only; set train.epochs to 1")

    @property
    def sources(self) -> list[Source]:
        """What is read, in this order."""
        return self.rows.sources

    @property
    def repeated(self) -> int:
        """Rows of a pipe that had been piped in before."""
        return repeated_rows(self.sources)

    def count_rows(self) -> int | None:
        """Rows in all epochs together, or None where the end is not known."""
        rows = self.rows.count_rows()
        return None if rows is None else self._epochs * rows

    def estimate_pairs(self) -> int | None:
        """Pairs with a preference in all epochs, from the rows and what the first block holds.

        Exact where one block holds everything; None where the rows cannot be counted. Raises
        DataError if the first block is empty or has too many unusable rows.
        """
        rows = self.count_rows()
        if rows is None:
            return None
        block = self.rows.first()
        probe = ExampleStream(
            self.sources,
            kind=self._kind,
            columns=self._columns,
            max_bad_fraction=self._max_bad_fraction,
        )
        examples = probe._taken_in(probe.make(_rows_of(block)))
        probe._check_bad(at_end=len(block) < self.rows.size)
        preferred = sum(not (isinstance(e, Pair) and e.is_tie) for e in examples)
        # Blank lines count as rows but never come out of a source.
        complete = len(block) < self.rows.size
        found = self._epochs * preferred if complete else round(rows * preferred / len(block))
        return max(0, found - self._skip)

    def state(self) -> dict[str, Any]:
        """The position, as JSON."""
        return {
            "epoch": self.epoch,
            "rows": self.rows.state(),
            "taken": self._taken,
            "num_consumed": self.num_consumed,
            "counts": asdict(self.counts),
            "counts_at_block": asdict(self._counts_at_block),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `state()` gave."""
        self.epoch = state["epoch"]
        self.rows.load_state(state["rows"])
        self._taken = state["taken"]
        self.num_consumed = state["num_consumed"]
        # What is counted of a begun block is counted again when it is read again.
        self._counts_at_block = RowCounts(**state["counts_at_block"])
        self.counts = RowCounts(**state["counts"])

    def __iter__(self) -> Iterator[Any]:
        """Examples, of kind `prompts` Prompts, and with `poll` WAITING among them."""
        left = max(0, self._skip - self.num_consumed)
        for example in self._all_epochs():
            if left and not isinstance(example, Waiting):
                left -= 1
            else:
                yield example

    def _all_epochs(self) -> Iterator[Example | Waiting]:
        self.counts = self._counts_at_block.copy()
        yield from self._one_epoch()
        while self.epoch + 1 < self._epochs:
            self.epoch += 1
            self.rows.restart()
            self._start_block()
            yield from self._one_epoch()
        self._check_bad(at_end=True)

    def _one_epoch(self) -> Iterator[Example | Waiting]:
        if self.rows.live:  # Nobody waits for a block that is not there yet.
            for block in self.rows:
                if isinstance(block, Waiting):
                    yield block
                    continue
                for made in self.made_of([_rows_of(block)]):
                    yield from self._examples(block, made)
            return
        read: deque[list[Placed]] = deque()
        for made in self.made_of(self._read_into(read)):
            yield from self._examples(read.popleft(), made)

    def _read_into(self, read: deque[list[Placed]]) -> Iterator[Rows]:
        for block in self.rows:
            assert not isinstance(block, Waiting)
            read.append(block)
            yield _rows_of(block)

    def _examples(self, block: list[Placed], made: BlockExamples) -> Iterator[Example]:
        """The examples of a block that did not come out yet."""
        pairs = self._taken_in(made)
        self._check_bad(at_end=0 < len(block) < self.rows.size)
        self.rows.begin(block)
        for pair in self._in_order(pairs)[self._taken :]:
            self._taken += 1
            self.num_consumed += 1
            yield pair
        self.rows.end(block)
        self._start_block()

    def _in_order(self, pairs: list[Example]) -> list[Example]:
        if not self._shuffle:
            return pairs
        order = random.Random(f"{self._seed}/{self.epoch}/{self.rows.last}")
        shuffled = []
        for first in range(0, len(pairs), self._shuffle):
            part = pairs[first : first + self._shuffle]
            order.shuffle(part)
            shuffled += part
        return shuffled

    def _start_block(self) -> None:
        self._counts_at_block = self.counts.copy()
        self._taken = 0

    def _taken_in(self, made: BlockExamples) -> list[Any]:
        """The examples of a block, which are counted with its other rows."""
        self.counts.read += made.read
        for where, reason in made.invalid:
            self.counts.add_invalid(where, reason)
        self.counts.skipped += made.skipped
        return made.examples

    def _check_bad(self, *, at_end: bool) -> None:
        # Early in a long stream one invalid row is a large share; wait until it is meaningful.
        # At the end of a live stream all is trained already, too late to refuse a few rows.
        early = self.rows.live or not at_end
        counted = max(self.counts.read, READ_AHEAD) if early else self.counts.read
        if self.counts.invalid > self._max_bad_fraction * counted:
            raise DataError(
                f"{self.counts.invalid} of {self.counts.read} rows cannot be used, more than "
                f"max_bad_fraction = {self._max_bad_fraction:g} allows:\n  "
                + "\n  ".join(self.counts.shown)
                + "\nFix the rows, or raise max_bad_fraction (data.max_bad_fraction in a recipe)."
            )
        if at_end and self.counts.read == 0:
            names = ", ".join(source.name for source in self.sources[:SHOWN])
            more = ", ..." if len(self.sources) > SHOWN else ""
            raise DataError(f"no rows in {names}{more}{waiting_votes(self.sources)}")


def _rows_of(block: list[Placed]) -> Rows:
    return [(placed.where, placed.row) for placed in block]


def _check_columns(columns: Mapping[str, str]) -> None:
    unknown = [
        f"data.columns: got {meaning!r}; allowed are {', '.join(sorted(COLUMNS))}"
        + did_you_mean(meaning, COLUMNS)
        for meaning in columns
        if meaning not in COLUMNS
    ]
    both = [
        f"data.columns: {name!r} stands on both sides; give the rows other names"
        for name in columns.values()
        if name in columns
    ]
    if unknown or both:
        raise ConfigError(*unknown, *both)
