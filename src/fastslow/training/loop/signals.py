"""Stopping a run: a token, which signals set in the main thread.

Ctrl-C, SIGTERM, a terminal that hangs up (SIGHUP) and what job schedulers send before they take a
machine away (SIGUSR1) all mean the same. The current step or evaluation is finished, then a
checkpoint is written. A second SIGINT aborts.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
"""Not every system has the last two. They stay ignored where they are, as under nohup."""


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
    """Inside the block, SIGINT, SIGTERM, SIGHUP and SIGUSR1 set a token.

    Args:
        token: the token to set.
        on_first: called with the name of the first signal, also of one that a block inside hears.
        at_once: raise KeyboardInterrupt at the first signal, unless a block inside hears it.
    """

    def __init__(
        self, token: StopToken, on_first: Callable[[str], None], *, at_once: bool = False
    ) -> None:
        self._token = token
        self._on_first = on_first
        self._at_once = at_once
        self.aborted = False
        """Whether a second SIGINT came."""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopToken:
        # Python lets only the main thread set handlers; elsewhere the caller owns the signals.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _heard()}
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
        first = not self._token.received
        self._hear(signal.Signals(number))
        if self.aborted or (first and self._at_once):
            raise KeyboardInterrupt

    def _hear(self, number: signal.Signals) -> None:
        if not self._token.received:
            self._token.stop(number.name)
            self._on_first(number.name)
        elif number == signal.SIGINT:
            self.aborted = True
        outer = getattr(self._previous.get(number), "__self__", None)
        if isinstance(outer, StopSignals):
            outer._hear(number)


def _heard() -> Iterator[signal.Signals]:
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        may_be_ignored = name in ("SIGHUP", "SIGUSR1")
        if number and not (may_be_ignored and signal.getsignal(number) == signal.SIG_IGN):
            yield number
