"""Runs the server in this process until it is told to stop."""

import gc
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from fastslow.serve.app import make_app
from fastslow.serve.live import Live

STOPS_WITHIN = 5
"""Seconds that open requests get when the server stops."""
KEPT_OPEN = 75
"""Seconds that an idle connection stays open: longer than proxies and clients keep theirs."""
STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def answering(live: Live) -> Iterator[uvicorn.Server]:
    """A server to `run`; inside the context, signals shut it down gracefully."""
    server = _Server(live)
    _answer_promptly()
    with on_signals(lambda: stop(server)):
        yield server


class _Server(uvicorn.Server):
    """Shuts down gracefully; ends the streams first that would never end by themselves."""

    def __init__(self, live: Live) -> None:
        super().__init__(_config(live))
        self._live = live

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A second signal changes nothing: what is open ends within STOPS_WITHIN seconds."""
        super().handle_exit(sig, frame)
        self.force_exit = False

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._live.changes.close()
        await super().shutdown(sockets)


def _config(live: Live) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(live),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=STOPS_WITHIN,
        timeout_keep_alive=KEPT_OPEN,
    )


def stop(server: uvicorn.Server) -> None:
    """Have a server shut down gracefully."""
    server.should_exit = True


@contextmanager
def on_signals(act: Callable[[], object]) -> Iterator[None]:
    """Inside the context, a signal to stop calls `act`: before uvicorn installs its own handlers
    and when it raises the signal again."""
    before = {number: signal.signal(number, lambda *_: act()) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _answer_promptly() -> None:
    """Avoid pauses: requests and the writing thread take turns often, and long-lived objects are
    exempt from garbage collection."""
    sys.setswitchinterval(0.001)
    gc.collect()
    gc.freeze()
