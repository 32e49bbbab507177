"""Stopping a run: a token, which SIGINT and SIGTERM set in the main thread.

The current step or evaluation is finished, then a checkpoint is written. A second SIGINT aborts.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopToken:
    """Requests a clean stop of a run, from any thread.

    >>> token = StopToken()
    >>> token.stop("enough")
    >>> token.received, token.reason
    (True, 'enough')
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason = ""

    @property
    def received(self) -> bool:
        """Whether a stop was requested."""
        return self._event.is_set()

    def stop(self, reason: str = "stopped") -> None:
        """Request a stop; the first reason counts."""
        if not self.received:
            self.reason = reason
            self._event.set()


class StopSignals:
    """Inside the block, SIGINT and SIGTERM set a token.

    Args:
        token: the token to set.
        on_first: called with the name of the first signal.
    """

    def __init__(self, token: StopToken, on_first: Callable[[str], None]) -> None:
        self._token = token
        self._on_first = on_first
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopToken:
        # Python lets only the main thread set handlers; elsewhere the caller owns the signals.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self._token

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._token.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self._token.received:
            name = signal.Signals(number).name
            self._token.stop(name)
            self._on_first(name)
