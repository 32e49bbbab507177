"""Opens a live folder and serves it, in this process or by several, until it is told to stop."""

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from fastslow.errors import ConfigError
from fastslow.feedback.imports import import_pair
from fastslow.records import Pair
from fastslow.serve.live import Live
from fastslow.serve.running import answering
from fastslow.serve.supervised import learner_beside
from fastslow.serve.tokens import FILE, first_tokens
from fastslow.serve.workers import Serving, answering_by_workers
from fastslow.streams.rows import read_examples
from fastslow.streams.sources import open_sources

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    serving: Serving,
    *,
    host: str,
    port: int,
    pairs: Iterable[str] = (),
    learning: Sequence[str] | None = None,
    workers: int = 1,
    ready: Callable[[str], None] = lambda address: None,
    say: Callable[[str], None],
) -> None:
    """Open a live folder, and serve it until a signal comes.

    Args:
        port: 0 takes any that is free.
        pairs: files of pairs that are put up for comparison, unless they are there already.
        learning: arguments of `fastslow learn` after the folder, which runs beside; None: it
            does not.
        workers: processes that answer; 1 is this one.
        ready: is called with its address once it can be asked.

    Raises ConfigError where the address cannot be taken, a file holds no pairs, or several workers
    cannot be.
    """
    if workers > 1:
        serving.check_workers(workers)
    folder = serving.folder
    with _listening(host, port) as taken, serving.opened() as live:
        for name in live.engine.models if live.engine else ():
            say(f"model {name}")
        port = taken.getsockname()[1]
        folder.mkdir(parents=True, exist_ok=True)
        made = first_tokens(live.store, folder, now=live.clock())
        for line in _imported(live, list(pairs)):
            say(line)
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        for name, token in (made or {}).items():
            say(f"{name}: {address}/#token={token}")
        if host not in LOOPBACK:
            say("warning: others can reach this; put a proxy with TLS in front of it")
        several = answering_by_workers(serving, workers, taken) if workers > 1 else None
        beside = nullcontext() if learning is None else learner_beside([str(folder), *learning])
        with several or _answering_here(live, taken) as answer, beside:
            say(f"serving on {address}; tokens are in {folder / FILE}; Ctrl-C stops")
            ready(address)  # Connections wait until they are taken.
            answer()
    say("stopped")


@contextmanager
def _answering_here(live: Live, taken: socket.socket) -> Iterator[Callable[[], None]]:
    with answering(live) as server:
        yield lambda: server.run(sockets=[taken])


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
