"""Worker processes that answer on one socket, each with its own connections to the store."""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from fastslow.errors import ConfigError
from fastslow.feedback import Store
from fastslow.orphans import end_with
from fastslow.serve.engine.opening import EngineChoice, opened_engine
from fastslow.serve.live import Live, Settings
from fastslow.serve.running import answering, on_signals, stop
from fastslow.serve.supervised import workers_beside
from fastslow.streams.rows import read_prompts
from fastslow.streams.sources import open_sources

TOLD = "FASTSLOW_WORKER"
"""Environment variable that says what a worker serves; it may contain a password."""
LOOKS_EVERY = 0.1
"""Seconds between two checks for a signal."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What a process needs to serve a live folder."""

    folder: Path
    settings: Settings
    answers: EngineChoice
    prompts: Sequence[str] = ()
    """Files of prompts that the engine answers twice while few pairs are left."""
    store_url: str | None = None
    """None: the store is in the folder."""

    @contextmanager
    def opened(self) -> Iterator[Live]:
        """The store and the engine, closed on exit."""
        with (
            Store(self.store_url or self.folder) as store,
            opened_engine(self.answers, store) as engine,
        ):
            if self.prompts and engine is None:
                raise ConfigError(
                    "--prompts needs something that answers: add model=path/to/model or "
                    "--engine URL"
                )
            prompts = [*read_prompts(open_sources([*self.prompts]))] if self.prompts else []
            yield Live(store, self.settings, engine=engine, prompts=prompts, folder=self.folder)

    def check_workers(self, count: int) -> None:
        """Raise ConfigError where several processes would get in each other's way."""
        option = f"--workers {count}:"
        if sys.platform == "win32":
            raise ConfigError(f"{option} needs Linux or macOS; start one server")
        if not (self.store_url or "").startswith("postgresql"):
            raise ConfigError(
                f"{option} processes would wait for each other to write to SQLite; add --store "
                "postgresql+psycopg://user@host/name"
            )
        if self.answers.url is None and (self.answers.overrides or self.answers.adapters):
            raise ConfigError(
                f"{option} each process would hold the model; have an engine answer: --engine URL"
            )

    def as_json(self) -> str:
        """As JSON, for another process."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Serving":
        """The inverse of `as_json`."""
        values = json.loads(text)
        settings = Settings(**{**values["settings"], "hosts": tuple(values["settings"]["hosts"])})
        adapters = [Path(folder) for folder in values["answers"]["adapters"]]
        answers = EngineChoice(**{**values["answers"], "adapters": adapters})
        folder = Path(values["folder"])
        return cls(folder, settings, answers, values["prompts"], values["store_url"])


@contextmanager
def answering_by_workers(
    serving: Serving, count: int, taken: socket.socket
) -> Iterator[Callable[[], None]]:
    """In the context, `count` processes answer; yields a function that waits for a stop signal."""
    signalled = False

    def note() -> None:
        nonlocal signalled
        signalled = True

    def wait() -> None:
        while not signalled:
            time.sleep(LOOKS_EVERY)

    environment = {**os.environ, TOLD: serving.as_json()}
    with on_signals(note), workers_beside(count, taken.fileno(), environment):
        yield wait


def answer_beside_others(number: int, *, supervisor: int) -> None:
    """Run one of several processes that answer on a socket.

    Args:
        number: file descriptor of the inherited socket.
        supervisor: id of the parent process; this one ends with it.

    Raises ConfigError if `fastslow serve` did not start this process.
    """
    if (serving_json := os.environ.pop(TOLD, None)) is None:
        raise ConfigError("a worker is started by `fastslow serve --workers`; run that")
    serving = Serving.from_json(serving_json)
    with (
        socket.socket(fileno=number) as taken,
        serving.opened() as live,
        answering(live) as server,
    ):
        end_with(supervisor, lambda: stop(server))
        server.run(sockets=[taken])
