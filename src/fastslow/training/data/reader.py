"""The base class of the readers that supply a run's batches."""

from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import closing
from typing import Any

from fastslow.errors import StateError
from fastslow.scoring import Encoded


class Reader(ABC):
    """Iterates over batches of encoded examples, counts what it skips, and can go back.

    `state()` is the position after the last batch yielded, as JSON, for a checkpoint. `position()`
    is the same for use within this process, which may be cheaper.
    """

    _moves = 0
    """How often `seek` was called."""

    def __iter__(self) -> Generator[list[Encoded]]:
        """Batches from the current position on, even if that changes during iteration.

        Raises DataError if too many examples are unusable.
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
        """Batches from the current position on."""

    @property
    @abstractmethod
    def num_consumed(self) -> int:
        """Rows of the stream consumed so far, including skipped ones."""

    @abstractmethod
    def summary(self) -> dict[str, int]:
        """Counts of what was read and what happened to it."""

    @abstractmethod
    def skipped_examples(self) -> list[str]:
        """The first few rows and examples that were not used, as `file:row: reason`."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The position after the last batch yielded, as JSON."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `state()` returned."""
        self._load(state)
        self._moves += 1

    @abstractmethod
    def _load(self, state: dict[str, Any]) -> None:
        """Set the position to one that `state()` returned."""

    def position(self) -> Any:
        """The position after the last batch yielded, for `seek` in this process."""
        return self.state()

    def seek(self, position: Any) -> None:
        """Go to a position that `position()` returned."""
        self.load_state(position)

    def metrics(self) -> dict[str, float]:
        """Metrics of the last batch for the step event, other than its scores."""
        return {}

    def take_warnings(self) -> list[str]:
        """Warnings about the batches since the last call."""
        return []

    def last_warnings(self) -> list[str]:
        """Further warnings, for a run that ends after the last batch yielded."""
        return []

    def open(self) -> None:  # noqa: B027
        """Check that whatever it needs outside this process is available."""

    def close(self) -> None:  # noqa: B027
        """Release whatever it uses outside this process."""

    def renew(self) -> None:
        """Discard the remaining completions. Raises StateError if there are none."""
        raise StateError(
            f"{type(self).__name__} reads stored examples, which cannot be sampled again"
        )
