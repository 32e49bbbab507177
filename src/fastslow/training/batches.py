"""Batches of encoded pairs off the stream, with everything that was left out counted."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastslow.errors import DataError
from fastslow.scoring import Dropped, EncodedPair, Encoder
from fastslow.streams import PairStream, ReplayStream

MAX_DROPPED = 0.1
SHOWN = 5
ENOUGH_PAIRS = 100


@dataclass(slots=True)
class PairCounts:
    """What became of the pairs that came off the stream."""

    kept: int = 0
    ties: int = 0
    """Pairs without a preference, which a pairwise objective cannot learn from."""
    cut: int = 0
    """Kept pairs that truncation shortened."""
    dropped: int = 0
    """Pairs that cannot be scored within the length limit."""


class BatchReader:
    """Iterates over batches of up to `batch_size` usable pairs; the last may be smaller.

    Raises DataError when more than a tenth of the pairs cannot be scored, or none can.
    """

    def __init__(
        self, stream: PairStream | ReplayStream, encoder: Encoder, *, batch_size: int
    ) -> None:
        self.stream = stream
        self.counts = PairCounts()
        self.shown: list[str] = []
        """The first few dropped pairs, as `file:row: reason`."""
        self._encoder = encoder
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[list[EncodedPair]]:
        batch: list[EncodedPair] = []
        for pair in self.stream:
            if pair.verdict == "tie":
                self.counts.ties += 1
                continue
            encoded = self._encoder.encode(pair)
            if isinstance(encoded, Dropped):
                self.counts.dropped += 1
                if len(self.shown) < SHOWN:
                    self.shown.append(f"{pair.source}: {encoded.reason}")
                self._check_dropped(ENOUGH_PAIRS)
                continue
            self.counts.kept += 1
            self.counts.cut += encoded.cut
            batch.append(encoded)
            if len(batch) == self._batch_size:
                yield batch
                batch = []
        if batch:
            yield batch
        self._check_dropped(1)
        if not self.counts.kept:
            raise DataError(f"no usable pair in the data: {self.summary()}")

    def summary(self) -> dict[str, int]:
        """Counts of rows read and bad, and of pairs tied, cut and dropped."""
        rows, pairs = self.stream.counts, self.counts
        return {
            "read": rows.read,
            "bad": rows.bad,
            "ties": pairs.ties,
            "cut": pairs.cut,
            "dropped": pairs.dropped,
        }

    def left_out(self) -> list[str]:
        """The first few rows and pairs that were not used, as `file:row: reason`."""
        return [*self.stream.counts.shown, *self.shown]

    def state(self) -> dict[str, Any]:
        """The position after the last batch that came out, as JSON."""
        counts = {name: getattr(self.counts, name) for name in self.counts.__slots__}
        return {"stream": self.stream.state(), "counts": counts, "shown": list(self.shown)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `state()` gave."""
        self.stream.load_state(state["stream"])
        self.counts = PairCounts(**state["counts"])
        self.shown = list(state["shown"])

    def _check_dropped(self, enough: int) -> None:
        """Early on, one dropped pair is a large share: `enough` pairs are taken as seen."""
        pairs = self.counts.kept + self.counts.dropped
        if self.counts.dropped > MAX_DROPPED * max(pairs, enough):
            raise DataError(
                f"{self.counts.dropped} of {pairs} pairs cannot be scored with data.max_length = "
                f"{self._encoder.max_length}:\n  "
                + "\n  ".join(self.shown)
                + "\nRaise data.max_length or leave such pairs out of the data."
            )
