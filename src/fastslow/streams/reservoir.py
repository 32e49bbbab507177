"""A small even sample of all that went by, kept at constant size."""

import random
from collections.abc import Mapping
from typing import Any

from fastslow.records import Example
from fastslow.streams.formats import read_row, row_of


class Reservoir:
    """A uniform sample of `size` of the examples given so far (Vitter's algorithm R).

    Which ones stay depends on the seed and on the order of arrival alone.
    """

    def __init__(self, size: int, *, seed: int) -> None:
        self.size = size
        self.seen = 0
        self.examples: list[Example] = []
        self._seed = seed

    def add(self, example: Example) -> None:
        """Let one more example go by."""
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
        self.examples = [read_row(row, source=row["source"]) for row in state["rows"]]
