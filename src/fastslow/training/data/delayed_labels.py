"""Labels that arrive late: pairs are tested when shown, long before they are learned from."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from fastslow.scoring import Encoded
from fastslow.training.data.batch_reader import BatchReader


class DelayedLabels:
    """A second reader of the same stream that runs `delay` pairs ahead of the learning one.

    The delay is rounded up to whole batches of `batch_size`.
    """

    def __init__(self, reader: BatchReader, *, delay: int, batch_size: int) -> None:
        self._reader = reader
        self._ahead = math.ceil(delay / batch_size)
        self._shown = 0
        self._batches: Iterator[list[Encoded]] | None = None

    def due(self, step: int) -> Iterator[list[Encoded]]:
        """The batches to show before the update after `step`."""
        if self._batches is None:
            self._batches = iter(self._reader)
        while self._shown <= step + self._ahead:
            batch = next(self._batches, None)
            if batch is None:
                return
            self._shown += 1
            yield batch

    def state(self) -> dict[str, Any]:
        """The position, as JSON."""
        return {"reader": self._reader.state(), "shown": self._shown}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go to a position that `state()` returned."""
        self._reader.load_state(state["reader"])
        self._shown = state["shown"]
        self._batches = None
