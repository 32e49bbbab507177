"""Opens a live folder and serves it, in this process or several, until it is told to stop."""

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
        pairs: files of pairs to put up for comparison; known pairs are skipped.
        learning: arguments after the folder of a `fastslow learn` to run beside the server;
            None: none runs.
        workers: number of processes that answer; 1 is this one alone.
        ready: called with the server's address once it accepts requests.

    Raises ConfigError if the address cannot be used, a file holds no pairs, or several workers are
    not possible.
    """
    if workers > 1:
        serving.check_workers(workers)
    folder = serving.folder
    with _listening(host, port) as taken, serving.opened() as live:
        for name in live.engine.models if live.engine else ():
            say(f"model {name}")
        port = taken.getsockname()[1]
        folder.mkdir(parents=True, exist_ok=True)
        new_tokens = first_tokens(live.store, folder, now=live.clock())
        for line in _imported(live, list(pairs)):
            say(line)
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        for name, token in (new_tokens or {}).items():
            say(f"{name}: {address}/#token={token}")
        if host not in LOOPBACK:
            say(
                "warning: other machines can reach this server; put a proxy with TLS in front of it"
            )
        several = answering_by_workers(serving, workers, taken) if workers > 1 else None
        beside = nullcontext() if learning is None else learner_beside([str(folder), *learning])
        with several or _answering_here(live, taken) as answer, beside:
            say(f"serving on {address}; tokens are in {folder / FILE}; Ctrl-C stops")
            ready(address)  # Connections wait until the server accepts them.
            answer()
    say("stopped")


@contextmanager
def _answering_here(live: Live, taken: socket.socket) -> Iterator[Callable[[], None]]:
    with answering(live) as server:
        yield lambda: server.run(sockets=[taken])


def _listening(host: str, port: int) -> socket.socket:
    """A socket bound to the address before anything is written."""
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
    """Put the files' pairs up for comparison; yields a line for each file."""
    for file in files:
        rows = list(read_examples(open_sources([file])))
        # Labels are ignored: people vote on the pairs.
        pairs = [replace(row, verdict="chosen") for row in rows if isinstance(row, Pair)]
        if not pairs:
            raise ConfigError(f"{file} holds no pairs; rows need a prompt, chosen and rejected")
        # Submitted together, so that they share commits.
        futures = [
            live.store.submit(import_pair, pair=pair, now=live.clock(), draw=live.draw)
            for pair in pairs
        ]
        new = sum(future.result() for future in futures)
        others = len(rows) - len(pairs)
        kinds = f", {others:,} other rows skipped" if others else ""
        yield f"{file}: {new:,} new pairs, {len(pairs) - new:,} already present{kinds}"
