"""SIGINT and SIGTERM ask a run to stop after the step at hand; a second SIGINT stops it at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal came while the run was waiting."""


class StopRequest:
    """Inside the block, `received` says whether a signal has come, and `name` which.

    `on_first` is told the name of the first one when it comes. Inside `waiting` a signal ends the
    wait by raising Interrupted, as when a live stream has nothing to give.
    """

    def __init__(self, on_first: Callable[[str], None]) -> None:
        self.name = ""
        self._on_first = on_first
        self._waiting = False
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def received(self) -> bool:
        return bool(self.name)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A wait that a signal may cut short."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def __enter__(self) -> "StopRequest":
        # Python lets only the main thread set handlers; elsewhere the caller owns the signals.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.received:
            self.name = signal.Signals(number).name
            self._on_first(self.name)
        if self._waiting:
            raise Interrupted
