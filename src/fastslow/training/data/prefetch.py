"""Reads and tokenises the next batch while the current one is learned from.

With a small model, a GPU learns from pairs about as fast as they can be tokenised.
"""

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from fastslow.scoring import Encoded
from fastslow.training.data.reader import Reader


@dataclass(frozen=True, slots=True)
class _Position:
    """A reader's position and reports right after it yielded a batch."""

    state: dict[str, Any]
    summary: dict[str, int]
    skipped_examples: list[str]
    num_consumed: int
    warnings: list[str]
    last_warnings: list[str]


class PrefetchReader(Reader):
    """Yields the batches of another reader, and reports what that reader would after each batch.

    The other reader is one batch ahead, so its stream must be rereadable. Its errors are raised
    when that batch is due.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._at = _position_of(reader)
        self._next: Future[Any] | None = None
        """The batch being read now."""
        self._new_warnings: list[str] = []

    @property
    def num_consumed(self) -> int:
        """As the other reader's, after the last batch yielded."""
        return self._at.num_consumed

    def _batches(self) -> Generator[list[Encoded]]:
        self._reader.load_state(self._at.state)
        batches = iter(self._reader)

        def read() -> tuple[list[Encoded] | None, _Position]:
            return next(batches, None), _position_of(self._reader)

        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as background:
            self._next = background.submit(read)
            while True:
                batch, self._at = self._next.result()
                self._new_warnings += self._at.warnings
                if batch is None:
                    return
                self._next = background.submit(read)
                yield batch

    def summary(self) -> dict[str, int]:
        """As the other reader's, after the last batch yielded."""
        return self._at.summary

    def skipped_examples(self) -> list[str]:
        """As the other reader's, after the last batch yielded."""
        return self._at.skipped_examples

    def take_warnings(self) -> list[str]:
        """As the other reader's, for the batches yielded since the last call."""
        taken, self._new_warnings = self._new_warnings, []
        return taken

    def last_warnings(self) -> list[str]:
        """As the other reader's, after the last batch yielded."""
        return self._at.last_warnings

    def position(self) -> Any:
        """The position after the last batch yielded."""
        return self._at

    def seek(self, position: Any) -> None:
        """Go to a position that `position()` returned."""
        self._at = position
        self._moves += 1

    def state(self) -> dict[str, Any]:
        """The position after the last batch yielded, as JSON."""
        return self._at.state

    def _load(self, state: dict[str, Any]) -> None:
        if self._next is not None:
            wait([self._next])
        self._reader.load_state(state)
        self._at = _position_of(self._reader)


def _position_of(reader: Reader) -> _Position:
    return _Position(
        reader.state(), reader.summary(), reader.skipped_examples(), reader.num_consumed,
        reader.take_warnings(), reader.last_warnings(),
    )  # fmt: skip
