"""The next batch is read and tokenised while the one before is learned from.

A GPU learns a small model's pairs about as fast as they can be tokenised.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fastslow.scoring import Encoded
from fastslow.training.data.batch_reader import BatchReader


@dataclass(frozen=True, slots=True)
class _Place:
    """What a reader said of itself when a batch had just come out."""

    state: dict[str, Any]
    summary: dict[str, int]
    left_out: list[str]
    given: int


class AheadReader:
    """Gives the batches of a reader, and says of itself what that would after the same batch.

    The reader is one batch ahead, so it must be one that can go back: not of standard input. Raises
    what the reader raises, when it is that batch's turn.
    """

    def __init__(self, reader: BatchReader) -> None:
        self._reader = reader
        self._at = _place_of(reader)

    @property
    def given(self) -> int:
        """As of the reader."""
        return self._at.given

    def __iter__(self) -> Iterator[list[Encoded]]:
        self._reader.load_state(self._at.state)
        batches = iter(self._reader)

        def read() -> tuple[list[Encoded] | None, _Place]:
            return next(batches, None), _place_of(self._reader)

        with ThreadPoolExecutor(1, thread_name_prefix="ahead") as background:
            coming = background.submit(read)
            while True:
                batch, self._at = coming.result()
                if batch is None:
                    return
                coming = background.submit(read)
                yield batch

    def summary(self) -> dict[str, int]:
        """As of the reader."""
        return self._at.summary

    def facts(self) -> dict[str, float]:
        """As of the reader."""
        return {}

    def left_out(self) -> list[str]:
        """As of the reader."""
        return self._at.left_out

    def mark(self) -> Any:
        """The position after the last batch that came out, to go back to in this process."""
        return self._at

    def go_back(self, mark: Any) -> None:
        """Go to a position that `mark` gave."""
        self._at = mark

    def state(self) -> dict[str, Any]:
        """The position after the last batch that came out, as JSON."""
        return self._at.state

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `state()` gave."""
        self._reader.load_state(state)
        self._at = _place_of(self._reader)


def _place_of(reader: BatchReader) -> _Place:
    return _Place(reader.state(), reader.summary(), reader.left_out(), reader.given)
