"""Batches that a user hands to a learner, encoded, with everything that is skipped counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from fastslow.api.rows import EXAMPLES, placed_rows
from fastslow.errors import DataError
from fastslow.objectives import Objective
from fastslow.records import Example, Pair
from fastslow.scoring import Dropped, Encoded, Encoder
from fastslow.streams import RowCounts, RowError, Unreadable, example_warnings, examples_of_row
from fastslow.streams.labels import as_kind
from fastslow.training.data.batch_reader import ExampleCounts
from fastslow.training.data.requirements import is_idle_tie, missing_fields

SHOWN = 20
"""Reasons that are kept."""


class Intake:
    """Turns rows, Examples and Encoded into Encoded. Its counts go into checkpoints.

    Args:
        encoder: of the learner.
        objective: says which kind of example is learned from.
    """

    def __init__(self, encoder: Encoder, objective: Objective) -> None:
        self.rows = RowCounts()
        self.examples = ExampleCounts()
        self.shown: list[str] = []
        """The first reasons why something was skipped, as `rows:number: reason`."""
        self._encoder = encoder
        self._objective = objective
        self._is_first = True

    def encode(self, batch: Any) -> tuple[list[Encoded], list[str]]:
        """The usable examples, and what is to be said: why others were skipped, and of the first
        batch what a user should know of its columns and of the chat template.

        Raises DataError where nothing is usable.
        """
        skipped: list[str] = []
        notes: list[str] = []
        if isinstance(batch, (list, tuple)) and all(isinstance(item, Encoded) for item in batch):
            kept = list(batch)
        else:
            examples = list(self._learnable(self._examples(batch, skipped), skipped))
            kept = list(self._kept(self._encoder.encode_all(examples), skipped))
            if self._is_first:
                notes = [*example_warnings(examples), *self._encoder.warnings(examples)]
                self._is_first = False
        self.examples.kept += len(kept)
        self.shown = (self.shown + skipped)[:SHOWN]
        if not kept:
            said = "no usable examples in the batch; nothing was learned"
            raise DataError("\n  ".join([f"{said}:", *skipped[:5]]) if skipped else said)
        return kept, [*(f"skipped: {reason}" for reason in skipped), *notes]

    def _examples(self, batch: Any, skipped: list[str]) -> Iterator[Example]:
        for place, row in placed_rows(batch):
            self.rows.read += 1
            # Rows of every batch count from 1; a learner's from its first one.
            where = f"rows:{self.rows.read}" if place.startswith("rows:") else place
            try:
                found = self._as_examples(row, where)
            except RowError as error:
                self.rows.add_invalid(where, str(error))
                skipped.append(f"{where}: {error}")
                continue
            if not found:
                self.rows.skipped += 1
                skipped.append(
                    f"{where}: nothing in it for an objective of {self._objective.takes}"
                )
            yield from found

    def _as_examples(self, row: Any, where: str) -> list[Example]:
        if isinstance(row, Unreadable):
            raise RowError(row.reason)
        if isinstance(row, EXAMPLES):
            return as_kind(row, self._objective.takes)
        return examples_of_row(row, source=where, kind=self._objective.takes)

    def _learnable(self, examples: Iterator[Example], skipped: list[str]) -> Iterator[Example]:
        for example in examples:
            if is_idle_tie(example, self._objective):
                self.examples.ties += 1
                skipped.append(f"{example.source}: a tie, from which the objective does not learn")
            elif missing := missing_fields(example, self._objective):
                self.examples.missing_fields += 1
                skipped.append(f"{example.source}: {missing}")
            else:
                yield example

    def _kept(self, encoded: list[Encoded | Dropped], skipped: list[str]) -> Iterator[Encoded]:
        for item in encoded:
            if isinstance(item, Dropped):
                self.examples.dropped += 1
                skipped.append(f"{item.example.source}: {item.reason}")
                continue
            self.examples.truncated += item.truncated
            self.examples.truncated_prompts += item.prompt_truncated
            self.examples.learned_ties += isinstance(item.example, Pair) and item.example.is_tie
            yield item

    @contextmanager
    def of(self, objective: Objective) -> Iterator[None]:
        """Inside, rows are read for another objective."""
        own, self._objective = self._objective, objective
        try:
            yield
        finally:
            self._objective = own

    def summary(self) -> dict[str, int]:
        """Rows read, invalid and skipped; examples kept, tied, truncated, dropped, and without a
        field that the objective needs."""
        rows = {key: getattr(self.rows, key) for key in ("read", "invalid", "skipped")}
        return rows | asdict(self.examples)

    def state(self) -> dict[str, Any]:
        """The counts, as JSON."""
        return {
            "rows": asdict(self.rows),
            "examples": asdict(self.examples),
            "shown": list(self.shown),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up counts that `state()` gave."""
        self.rows = RowCounts(**state["rows"])
        self.examples = ExampleCounts(**state["examples"])
        self.shown = list(state["shown"])
