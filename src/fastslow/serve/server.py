"""Runs the application until it is told to stop."""

import gc
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import uvicorn

from fastslow.errors import ConfigError
from fastslow.feedback import Store
from fastslow.feedback.imports import import_pair
from fastslow.records import Pair
from fastslow.serve.app import make_app
from fastslow.serve.engine.opening import EngineChoice, opened_engine
from fastslow.serve.live import Live, Settings
from fastslow.serve.supervised import learner_beside
from fastslow.serve.tokens import FILE, first_tokens
from fastslow.streams.rows import read_examples, read_prompts
from fastslow.streams.sources import open_sources

STOPS_WITHIN = 5
"""Seconds that open requests get when the server stops."""
KEPT_OPEN = 75
"""Seconds for which an idle connection stays open: longer than proxies and clients keep theirs."""
STOPS = (signal.SIGINT, signal.SIGTERM)
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    folder: Path,
    *,
    host: str,
    port: int,
    settings: Settings,
    store_url: str | None,
    pairs: Iterable[str],
    prompts: Sequence[str],
    answers: EngineChoice,
    learning: Sequence[str] | None = None,
    ready: Callable[[str], None] = lambda address: None,
    say: Callable[[str], None],
) -> None:
    """Open the store in a folder or behind a URL, and serve it until a signal comes.

    Args:
        port: 0 takes any that is free.
        pairs: files of pairs that are put up for comparison, unless they are there already.
        prompts: files of prompts that the engine answers twice while few pairs are left.
        answers: what gives answers, if anything does.
        learning: arguments of `fastslow learn` after the folder, which runs beside; None: it
            does not.
        ready: is called with its address once it can be asked.

    Raises ConfigError where the address cannot be taken or a file holds no pairs.
    """
    with (
        _listening(host, port) as taken,
        Store(store_url or folder) as store,
        opened_engine(answers) as engine,
    ):
        if prompts and engine is None:
            raise ConfigError(
                "--prompts needs something that answers: add model=path/to/model or --engine URL"
            )
        for name in engine.models if engine else ():
            say(f"model {name}")
        asked = [*read_prompts(open_sources([*prompts]))] if prompts else []
        live = Live(store, settings, engine=engine, prompts=asked, folder=folder)
        port = taken.getsockname()[1]
        folder.mkdir(parents=True, exist_ok=True)
        made = first_tokens(store, folder, now=live.clock())
        for line in _imported(live, list(pairs)):
            say(line)
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        for name, token in (made or {}).items():
            say(f"{name}: {address}/#token={token}")
        if host not in LOOPBACK:
            say("warning: others can reach this; put a proxy with TLS in front of it")
        server = _Server(live)
        _answer_promptly()
        beside = nullcontext() if learning is None else learner_beside([str(folder), *learning])
        with _signals_stop(server), beside:
            say(f"serving on {address}; tokens are in {folder / FILE}; Ctrl-C stops")
            ready(address)  # Connections wait until they are taken.
            server.run(sockets=[taken])
    say("stopped")


class _Server(uvicorn.Server):
    """Ends the streams that have no end of their own before it waits for open requests."""

    def __init__(self, live: Live) -> None:
        super().__init__(_config(live))
        self._live = live

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


def _answer_promptly() -> None:
    """Requests and the thread that writes take turns often, and what is there for good is not
    looked through again and again for garbage: both would show as pauses."""
    sys.setswitchinterval(0.001)
    gc.collect()
    gc.freeze()


@contextmanager
def _signals_stop(server: uvicorn.Server) -> Iterator[None]:
    """Signals end it well, before uvicorn has its own handlers and when it raises them again."""

    def stop(*_: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listening(host: str, port: int) -> socket.socket:
    """A socket at the address, taken before anything is written."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        taken.listen(2048)
    except OSError as error:
        taken.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port, or 0 for any"
        ) from None
    return taken


def _imported(live: Live, files: list[str]) -> Iterable[str]:
    """Put the files' pairs up; a line for each file."""
    for file in files:
        given = list(read_examples(open_sources([file])))
        # Labelled or not, people are asked.
        found = [replace(one, verdict="chosen") for one in given if isinstance(one, Pair)]
        if not found:
            raise ConfigError(f"{file} holds no pairs; rows need a prompt, chosen and rejected")
        # All at once, so that they share commits.
        waiting = [
            live.store.submit(import_pair, pair=pair, now=live.clock(), draw=live.draw)
            for pair in found
        ]
        new = sum(one.result() for one in waiting)
        other = len(given) - len(found)
        kinds = f", {other:,} other rows skipped" if other else ""
        yield f"{file}: {new:,} new pairs, {len(found) - new:,} there already{kinds}"
