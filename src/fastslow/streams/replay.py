"""A stream with pairs of earlier domains mixed in."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from fastslow.errors import DataError
from fastslow.records import Example
from fastslow.streams.files import Waiting
from fastslow.streams.stream import ExampleStream, RowCounts

REPLAYED = "replayed"
"""Provenance of remembered pairs."""


class ReplayStream:
    """Iterates over a stream's pairs with remembered ones drawn evenly in between.

    On average `share` of all pairs that come out are remembered; the stream itself loses none.
    Which come when depends on the seed alone. Raises DataError for an empty memory.
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

    def estimate_pairs(self) -> int | None:
        """As of the stream, with the remembered pairs that are to be expected."""
        fresh = self._stream.estimate_pairs()
        return None if fresh is None else round(fresh / (1 - self._share))

    def fingerprint(self) -> list[Any]:
        """As of the stream; the memory is a file of its own."""
        return self._stream.fingerprint()

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
        """A pair of the memory, if one is due now."""
        draw = random.Random(f"{self._seed}/replay/{self._position}")
        return draw.choice(self._memory) if draw.random() < self._share else None


def is_replayed(example: Example) -> bool:
    """Whether a pair came out of a memory rather than off the stream."""
    return bool(example.provenance.get(REPLAYED))
