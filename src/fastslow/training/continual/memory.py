"""Reads the examples kept with a module, encoded for training."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from fastslow.adapters import Entry
from fastslow.errors import DataError
from fastslow.objectives import Objective
from fastslow.scoring import Encoded, Encoder
from fastslow.streams import ExampleStream, open_sources, read_examples
from fastslow.training.data.batch_reader import BatchReader

T = TypeVar("T")


def read_memory(entry: Entry, encoder: Encoder, objective: Objective) -> list[Encoded]:
    """The examples kept with an entry, encoded. Raises DataError if there are none."""

    def read() -> list[Encoded]:
        stream = ExampleStream(open_sources([str(entry.memory)]), kind=objective.takes)
        reader = BatchReader(stream, encoder, objective, batch_size=1024)
        return [item for batch in reader for item in batch]

    return _some(read, entry, "weights cannot be fitted")


def kept_examples(entry: Entry, encoder: Encoder) -> list[Encoded]:
    """The examples kept with an entry, encoded, whatever their labels. Raises as `read_memory`."""

    def read() -> list[Encoded]:
        examples = list(read_examples(open_sources([str(entry.memory)])))
        return [item for item in encoder.encode_all(examples) if isinstance(item, Encoded)]

    return _some(read, entry, "modules cannot be distilled")


def endless(items: Sequence[T], seed: str) -> Iterator[T]:
    """The examples of a replay buffer, or other items, reshuffled on every pass."""
    draw = random.Random(seed)
    while True:
        yield from draw.sample(items, len(items))


def _some(read: Callable[[], list[Encoded]], entry: Entry, what_fails: str) -> list[Encoded]:
    # Reading an empty file would raise an error that does not say what the rows are for.
    examples = read() if entry.memory.stat().st_size else []
    if not examples:
        raise DataError(f"{entry.memory} holds no examples; {what_fails} without a memory")
    return examples
