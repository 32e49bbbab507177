"""A stream with pairs of earlier domains mixed in."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from fastslow.errors import DataError
from fastslow.records import Example
from fastslow.streams.blocks import Blocks
from fastslow.streams.sources import Waiting
from fastslow.streams.stream import ExampleStream, RowCounts

REPLAYED = "replayed"
"""Provenance key of replayed pairs."""


class ReplayStream:
    """Iterates over a stream's pairs, mixed with pairs of a replay buffer.

    On average `share` of all pairs are replayed; no pair of the stream is lost. The order depends
    only on the seed. Raises DataError for an empty replay buffer.
    """

    def __init__(
        self, stream: ExampleStream, memory: Sequence[Example], *, share: float, seed: int
    ) -> None:
        if not memory:
            raise DataError("replay.memory: holds no pairs")
        self._stream = stream
        self._memory = [
            replace(example, provenance={**example.provenance, REPLAYED: True})
            for example in memory
        ]
        self._share = share
        self._seed = seed
        self._position = 0

    @property
    def counts(self) -> RowCounts:
        """Rows read of the stream itself."""
        return self._stream.counts

    @property
    def num_consumed(self) -> int:
        """Pairs of the stream itself that came out so far."""
        return self._stream.num_consumed

    @property
    def rows(self) -> Blocks:
        """Where the examples of the stream itself come from."""
        return self._stream.rows

    @property
    def repeated(self) -> int:
        """As of the stream itself."""
        return self._stream.repeated

    def estimate_pairs(self) -> int | None:
        """The stream's estimate plus the expected replayed pairs."""
        fresh = self._stream.estimate_pairs()
        return None if fresh is None else round(fresh / (1 - self._share))

    def state(self) -> dict[str, Any]:
        """The position, as JSON."""
        return {"stream": self._stream.state(), "position": self._position}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `state()` gave."""
        self._stream.load_state(state["stream"])
        self._position = state["position"]

    def __iter__(self) -> Iterator[Any]:
        """Examples, and WAITING among them where the stream polls."""
        fresh = iter(self._stream)
        while example := self._remembered() or next(fresh, None):
            self._position += not isinstance(example, Waiting)
            yield example

    def _remembered(self) -> Example | None:
        """A replayed pair, if one is due now."""
        draw = random.Random(f"{self._seed}/replay/{self._position}")
        return draw.choice(self._memory) if draw.random() < self._share else None


def is_replayed(example: Example) -> bool:
    """Whether a pair was replayed rather than read from the stream."""
    return bool(example.provenance.get(REPLAYED))
