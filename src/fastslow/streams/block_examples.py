"""The examples of a block of rows, and what is said of rows of which none can be made."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastslow.streams.columns import RowError
from fastslow.streams.labels import examples_of_row
from fastslow.streams.sources import Row, Unreadable


@dataclass(slots=True)
class BlockExamples:
    """What was made of some rows, in their order."""

    read: int = 0
    examples: list[Any] = field(default_factory=list)
    invalid: list[tuple[str, str]] = field(default_factory=list)
    """Where each unusable row stands, and why it is."""
    skipped: int = 0
    """Rows from which this kind of objective has nothing to learn."""


@dataclass(frozen=True, slots=True)
class ExampleMaker:
    """Makes examples of rows."""

    kind: str
    """`pairs`, `rankings`, `ratings`, `demonstrations` or `prompts`."""
    domain: str | None
    """Of examples whose row names none."""
    columns: Mapping[str, str]
    """What columns are called in the rows, by what they mean."""

    def __call__(self, rows: Iterable[tuple[str, Row]]) -> BlockExamples:
        """The examples of rows, each of which comes with where it stands."""
        found = BlockExamples()
        for where, row in rows:
            found.read += 1
            if isinstance(row, Unreadable):
                found.invalid.append((where, row.reason))
                continue
            try:
                examples = examples_of_row(
                    row,
                    source=where,
                    domain=self.domain,
                    kind=self.kind,
                    columns=self.columns,
                )
            except RowError as error:
                found.invalid.append((where, str(error)))
                continue
            found.skipped += not examples
            found.examples += examples
        return found
