"""A small even sample of all that went by, kept at constant size."""

import random
from collections.abc import Mapping
from typing import Any

from fastslow.records import Pair
from fastslow.streams.formats import pairs_of_row, row_of_pair


class Reservoir:
    """A uniform sample of `size` of the pairs given so far (Vitter's algorithm R).

    Which ones stay depends on the seed and on the order of arrival alone.
    """

    def __init__(self, size: int, *, seed: int) -> None:
        self.size = size
        self.seen = 0
        self.pairs: list[Pair] = []
        self._seed = seed

    def add(self, pair: Pair) -> None:
        """Let one more pair go by."""
        self.seen += 1
        if len(self.pairs) < self.size:
            self.pairs.append(pair)
            return
        place = random.Random(f"{self._seed}/reservoir/{self.seen}").randrange(self.seen)
        if place < self.size:
            self.pairs[place] = pair

    def state(self) -> dict[str, Any]:
        """Everything that changes, as JSON."""
        return {"seen": self.seen, "rows": [row_of_pair(pair) for pair in self.pairs]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up where `state()` was taken."""
        self.seen = state["seen"]
        self.pairs = [
            pair for row in state["rows"] for pair in pairs_of_row(row, source=row["source"])
        ]
