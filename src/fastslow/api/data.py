"""Batches of examples for a loop of your own."""

import warnings
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from fastslow.api.rows import sources_of
from fastslow.api.whole_numbers import not_whole
from fastslow.errors import ConfigError
from fastslow.records import Example
from fastslow.streams import ExampleStream

KINDS = ("pairs", "rankings", "ratings", "demonstrations")


class Batches:
    """Iterates over lists of examples. Rows are read when they are needed.

    A loop that was left continues with the next batch; after the last one the next loop begins
    again, unless the rows came from an iterator.

    More unusable rows than `max_bad_fraction` raise DataError, which names them. Fewer are counted
    in `skipped`, and one warning at the end names the first.
    """

    def __init__(self, stream: ExampleStream, size: int) -> None:
        self._stream = stream
        self._size = size
        self._begin = stream.state()
        self._rereadable = all(source.rereadable for source in stream.sources)
        self._examples: Iterator[Example] | None = None
        """Of the loop that is under way; an iterator's rows that it holds are nowhere else."""

    @property
    def skipped(self) -> int:
        """Rows so far that could not be used, or that this kind learns nothing from."""
        return self._stream.counts.invalid + self._stream.counts.skipped

    @property
    def skipped_examples(self) -> list[str]:
        """The first few unusable rows, as `file:row: reason`."""
        return list(self._stream.counts.shown)

    def __iter__(self) -> Iterator[list[Example]]:
        """Lists of `size` examples; the last may be shorter."""
        while batch := self._next():
            yield batch
        counts = self._stream.counts
        if counts.invalid:
            warnings.warn(
                f"{counts.invalid} of {counts.read} rows were skipped: {counts.shown[0]}",
                stacklevel=2,
            )

    def _next(self) -> list[Example]:
        """The next batch; none behind the last."""
        if self._examples is None:
            self._stream.load_state(self._begin)
            self._examples = iter(self._stream)
        batch: list[Example] = []
        try:
            batch = list(islice(self._examples, self._size))
        finally:
            if not batch and self._rereadable:
                self._examples = None
        return batch


def batches(
    data: Any,
    size: int,
    *,
    kind: str = "pairs",
    columns: Mapping[str, str] | None = None,
    epochs: int = 1,
    shuffle: int = 0,
    seed: int = 0,
    max_bad_fraction: float = 0.01,
) -> Batches:
    """Examples in lists of `size`, for `Learner.step`.

    Args:
        data: a datasets.Dataset, rows (dicts in TRL's formats), an iterator of rows, or paths.
        size: examples in a batch. The last batch may be smaller.
        kind: `pairs`, `rankings`, `ratings` or `demonstrations`; rows of other kinds become this
            one where they can.
        columns: what columns are called in the rows, by what they mean: `{"prompt": "question"}`.
        epochs: passes over the data. An iterator can be read once.
        shuffle: examples are shuffled within blocks of this many; 0 keeps their order.
        seed: of the shuffling; each epoch has its own order.
        max_bad_fraction: more unusable rows than this share, 0 to 1, stop the iteration.

    Raises ConfigError for a setting that is not allowed, DataError where there is nothing to read
    and, while iterating, where too many rows are unusable.
    """
    faults = [*not_whole(1, size=size, epochs=epochs), *not_whole(0, shuffle=shuffle)]
    if not 0 <= max_bad_fraction <= 1:
        faults.append(f"max_bad_fraction: got {max_bad_fraction!r}; must be from 0 to 1")
    if kind not in KINDS:
        faults.append(f"kind: got {kind!r}; allowed are {', '.join(KINDS)}")
    sources = sources_of(data)
    if epochs != 1 and not all(source.rereadable for source in sources):
        faults.append("epochs: an iterator can be read once only; give a list, or epochs=1")
    if faults:
        raise ConfigError(*faults)
    stream = ExampleStream(
        sources,
        kind=kind,
        columns=columns,
        epochs=epochs,
        shuffle=shuffle,
        seed=seed,
        max_bad_fraction=max_bad_fraction,
    )
    return Batches(stream, size)
