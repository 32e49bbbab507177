"""Batches of encoded examples from the stream, with counts of everything skipped."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fastslow.errors import DataError
from fastslow.objectives import Objective
from fastslow.records import Example
from fastslow.scoring import Dropped, Encoded, Encoder
from fastslow.streams import WAITING, ExampleStream, ReplayStream, Waiting
from fastslow.training.data.reader import Reader
from fastslow.training.data.requirements import is_idle_tie, missing_fields

MAX_SKIPPED = 0.1
SHOWN = 5
REMOVE_ROWS = "Do as suggested above, or remove these rows from the data."
GIVE_COLUMNS = "Add the columns, or choose an objective that does not need them."
ENOUGH_PAIRS = 100
TRUNCATED_UNSAID = 0.05
"""Share of truncated examples up to which there is no warning."""


@dataclass(slots=True)
class ExampleCounts:
    """Counts of the examples read from the stream."""

    kept: int = 0
    ties: int = 0
    """Examples without a preference, from which the objective does not learn."""
    learned_ties: int = 0
    """Ties from which the objective does learn."""
    truncated: int = 0
    """Kept examples that lost tokens to the length limit."""
    truncated_prompts: int = 0
    """Truncated examples whose prompt lost tokens."""
    dropped: int = 0
    """Examples that cannot be scored within the length limit."""
    missing_fields: int = 0
    """Examples without a field that the objective needs."""


class BatchReader(Reader):
    """Iterates over batches of up to `batch_size` examples that the objective can use.

    The last batch may be smaller. With a live source, a batch may also be smaller after
    `max_wait_s` seconds, or empty when there is no data yet. Raises DataError if more than a tenth
    of the examples, or all of them, are unusable.
    """

    def __init__(
        self,
        stream: ExampleStream | ReplayStream,
        encoder: Encoder,
        objective: Objective,
        *,
        batch_size: int,
        max_wait_s: float | None = None,
    ) -> None:
        self.stream = stream
        self.counts = ExampleCounts()
        self.shown: list[str] = []
        """The first few dropped examples, as `file:row: reason`."""
        self._encoder = encoder
        self._objective = objective
        self.batch_size = batch_size
        self._max_wait_s = max_wait_s
        self._warned_of_truncation = False

    def _batches(self) -> Generator[list[Encoded]]:
        batch: list[Encoded] = []
        examples, started = self._learnable(), 0.0
        # Take only as many as fit, so that the stream's position is the one after this batch.
        while taken := _take(examples, self.batch_size - len(batch)):
            waiting = taken[-1] is WAITING
            started = started if batch else time.monotonic()
            batch += self._kept(self._encoded(taken[:-1] if waiting else taken))
            if len(batch) == self.batch_size or (batch and waiting and self._overdue(started)):
                yield batch
                batch = []
            elif waiting:
                yield []
        if batch:
            yield batch
        self._check_skipped(1)
        if not self.counts.kept:
            raise DataError(self._no_examples())

    def _overdue(self, started: float) -> bool:
        return self._max_wait_s is not None and time.monotonic() - started >= self._max_wait_s

    def _learnable(self) -> Iterator[Any]:
        for example in self.stream:
            if isinstance(example, Waiting):
                yield example
            elif self._is_idle(example):
                self.counts.ties += 1
            elif missing := self._missing(example):
                self.counts.missing_fields += 1
                self._skip(example, missing)
            else:
                yield example

    def _is_idle(self, example: Any) -> bool:
        return is_idle_tie(example, self._objective)

    def _missing(self, example: Any) -> str | None:
        return missing_fields(example, self._objective)

    def _encoded(self, examples: Sequence[Any]) -> Sequence[Any]:
        """Each example as Encoded or Dropped."""
        return self._encoder.encode_all(examples)

    def _kept(self, encoded: Sequence[Any]) -> Iterator[Any]:
        for item in encoded:
            if isinstance(item, Dropped):
                self.counts.dropped += 1
                self._skip(item.example, item.reason)
                continue
            self.counts.kept += 1
            self.counts.truncated += item.truncated
            self.counts.truncated_prompts += item.prompt_truncated
            self.counts.learned_ties += item.is_tie
            yield item

    def take_warnings(self) -> list[str]:
        """A warning, once, if many of the first examples are truncated."""
        if self.counts.kept < ENOUGH_PAIRS:
            return []
        warnings = self._truncation("the first ")
        self._warned_of_truncation |= bool(warnings)
        return warnings

    def last_warnings(self) -> list[str]:
        """The same warning, for a run that ends before there are enough examples."""
        return self._truncation("") if self.counts.kept < ENOUGH_PAIRS else []

    def _truncation(self, which: str) -> list[str]:
        counts = self.counts
        many = counts.truncated > TRUNCATED_UNSAID * counts.kept
        if self._warned_of_truncation or not many:
            return []
        return [
            f"{counts.truncated} of {which}{counts.kept} examples are truncated at "
            f"data.max_length = {self._encoder.max_length}, {counts.truncated_prompts} of them in "
            "the prompt; `fastslow validate` shows the length that would keep 95 % whole"
        ]

    @property
    def num_consumed(self) -> int:
        """Examples taken from the stream so far."""
        return self.stream.num_consumed

    def _no_examples(self) -> str:
        counts = ", ".join(f"{n} {name}" for name, n in self.summary().items() if n)
        ties = "; davidson and rao_kupper can train on ties" if self.counts.ties else ""
        return f"no usable examples in the data ({counts}){ties}"

    def _skip(self, example: Example, reason: str) -> None:
        if len(self.shown) < SHOWN:
            self.shown.append(f"{example.source}: {reason}")
        self._check_skipped(ENOUGH_PAIRS)

    def summary(self) -> dict[str, int]:
        """Counts of rows read, invalid and skipped; of examples tied, truncated, dropped, and
        without a field that the objective needs; of rows already piped in before."""
        rows, examples = self.stream.counts, self.counts
        return {
            "read": rows.read,
            "invalid": rows.invalid,
            "skipped": rows.skipped,
            "ties": examples.ties,
            "learned_ties": examples.learned_ties,
            "truncated": examples.truncated,
            "truncated_prompts": examples.truncated_prompts,
            "dropped": examples.dropped,
            "missing_fields": examples.missing_fields,
            "repeated": self.stream.repeated,
        }

    def skipped_examples(self) -> list[str]:
        """The first few rows and examples that were not used, as `file:row: reason`."""
        return [*self.stream.counts.shown, *self.shown]

    def state(self) -> dict[str, Any]:
        """The position after the last batch yielded, as JSON."""
        counts = {name: getattr(self.counts, name) for name in self.counts.__slots__}
        return {"stream": self.stream.state(), "counts": counts, "shown": list(self.shown)}

    def _load(self, state: dict[str, Any]) -> None:
        self.stream.load_state(state["stream"])
        self.counts = ExampleCounts(**state["counts"])
        self.shown = list(state["shown"])

    def _check_skipped(self, enough: int) -> None:
        """Raise DataError if more than a tenth of the examples are unusable.

        Early on, a single one is a large share, so at least `enough` examples count as seen.
        """
        counts = self.counts
        lost = counts.dropped + counts.missing_fields
        examples = counts.kept + lost
        if lost <= MAX_SKIPPED * max(examples, enough):
            return
        advice = {REMOVE_ROWS: counts.dropped, GIVE_COLUMNS: counts.missing_fields}
        raise too_many_skipped(
            lost, examples, self.shown, [text for text, n in advice.items() if n]
        )


def _take(examples: Iterator[Any], count: int) -> list[Any]:
    """Up to `count` examples; fewer if WAITING comes first, which is then the last item."""
    taken: list[Any] = []
    for example in islice(examples, count):
        taken.append(example)
        if example is WAITING:
            break
    return taken


def too_many_skipped(
    lost: int, examples: int, shown: Sequence[str], advice: Sequence[str], *, what: str = "pairs"
) -> DataError:
    """The error when too many examples are unusable."""
    first = f"{lost} of the first {examples} {what} are unusable, more than a tenth:"
    return DataError("\n".join([first, *(f"  {line}" for line in shown), *advice]))
