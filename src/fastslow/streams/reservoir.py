"""A small even sample of all that went by, kept at constant size."""

import random
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from fastslow.records import Example, Prompt
from fastslow.streams.formats import read_prompt, read_row, row_of

Row = TypeVar("Row", Example, Prompt)


class Reservoir(Generic[Row]):
    """A uniform sample of `size` of what was given so far (Vitter's algorithm R).

    Which ones stay depends on the seed and on the order of arrival alone.

    Args:
        size: most that are kept.
        seed: of what stays.
        read: makes one of a JSON row.
    """

    def __init__(self, size: int, *, seed: int, read: Callable[..., Row]) -> None:
        self.size = size
        self.seen = 0
        self.examples: list[Row] = []
        self._seed = seed
        self._read: Callable[..., Row] = read

    @classmethod
    def of_examples(cls, size: int, *, seed: int) -> "Reservoir[Example]":
        """Of whole examples."""
        return Reservoir(size, seed=seed, read=read_row)

    @classmethod
    def of_prompts(cls, size: int, *, seed: int) -> "Reservoir[Prompt]":
        """Of prompts alone."""
        return Reservoir(size, seed=seed, read=read_prompt)

    def add(self, example: Row) -> None:
        """Let one more go by."""
        self.seen += 1
        if len(self.examples) < self.size:
            self.examples.append(example)
            return
        place = random.Random(f"{self._seed}/reservoir/{self.seen}").randrange(self.seen)
        if place < self.size:
            self.examples[place] = example

    def state(self) -> dict[str, Any]:
        """Everything that changes, as JSON."""
        return {"seen": self.seen, "rows": [row_of(example) for example in self.examples]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up where `state()` was taken."""
        self.seen = state["seen"]
        self.examples = [self._read(row, source=row["source"]) for row in state["rows"]]
