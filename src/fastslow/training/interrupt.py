"""SIGINT and SIGTERM ask a run to stop after the step at hand; a second SIGINT stops it at once."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Inside the block, `received` says whether a signal has come, and `name` which.

    `on_first` is told the name of the first one when it comes.
    """

    def __init__(self, on_first: Callable[[str], None]) -> None:
        self.name = ""
        self._on_first = on_first
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def received(self) -> bool:
        return bool(self.name)

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
