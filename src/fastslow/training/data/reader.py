"""What gives a run its batches."""

from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import closing
from typing import Any

from fastslow.errors import StateError
from fastslow.scoring import Encoded


class Reader(ABC):
    """Iterates over batches of encoded examples, counts what it skips, and can go back.

    `state()` is the position after the last batch that came out, as JSON, for a checkpoint;
    `position()` the same to go back to in this process, which may be cheaper.
    """

    _moves = 0
    """How often `seek` was called."""

    def __iter__(self) -> Generator[list[Encoded]]:
        """Batches from the present position on, also when that is changed on the way.

        Raises DataError where too much is unusable.
        """
        while True:
            moves = self._moves
            with closing(self._batches()) as batches:
                for batch in batches:
                    yield batch
                    if self._moves != moves:
                        break
                else:
                    return

    @abstractmethod
    def _batches(self) -> Generator[list[Encoded]]:
        """Batches from the present position on."""

    @property
    @abstractmethod
    def num_consumed(self) -> int:
        """Rows of the stream that were used up so far, skipped ones among them."""

    @abstractmethod
    def summary(self) -> dict[str, int]:
        """Counts of what was read and of what became of it."""

    @abstractmethod
    def skipped_examples(self) -> list[str]:
        """The first few rows and examples that were not used, as `file:row: reason`."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The position after the last batch that came out, as JSON."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `state()` gave."""
        self._load(state)
        self._moves += 1

    @abstractmethod
    def _load(self, state: dict[str, Any]) -> None:
        """Take over a position that `state()` gave."""

    def position(self) -> Any:
        """The position after the last batch that came out, for `seek` in this process."""
        return self.state()

    def seek(self, position: Any) -> None:
        """Go to a position that `position()` gave."""
        self.load_state(position)

    def metrics(self) -> dict[str, float]:
        """Metrics of the last batch for the step event, besides its scores."""
        return {}

    def take_warnings(self) -> list[str]:
        """What is to be said of the batches since the last call."""
        return []

    def open(self) -> None:  # noqa: B027
        """See that what is outside this process is there, where anything is needed."""

    def close(self) -> None:  # noqa: B027
        """Let go of what is outside this process."""

    def renew(self) -> None:
        """Discard the remaining completions. Raises StateError if there are none."""
        raise StateError(
            f"{type(self).__name__} reads stored examples, which cannot be sampled again"
        )
