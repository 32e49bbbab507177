"""The model in a process of its own, which is started again when it dies.

Decoding and votes then share no interpreter: a vote does not wait for a token. And what a model
dies of, as of memory, ends answers but takes no votes.
"""

import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from pathlib import Path

from fastslow.errors import StateError
from fastslow.serve.engine.process import KEY, START
from fastslow.serve.engine.requests import BASE, Ask, Busy, UnknownModel
from fastslow.serve.engine.wire import Line, Wire, ask_line, error_of, piece_of
from fastslow.serve.supervised import REFUSED, Keeper, command_of, on_cores

LOOKS_EVERY = 0.1
"""Seconds between two looks at whether the process that starts has died."""
STOPPED = "the engine was stopped"
Hear = Callable[[Line | Exception], bool]
"""Gets what is said to a request; whether that was the last of it."""
log = logging.getLogger(__name__)


class ApartEngine:
    """Answers of a model in another process of this machine.

    Args:
        overrides: settings of a recipe: its model, template and length limit.
        slots: adapters for which there is room from the start.
        threads: that decode; None: as many as there are cores.

    Raises ConfigError for a model that cannot be loaded, StateError where the process dies of it.
    """

    def __init__(self, overrides: Sequence[str], *, slots: int, threads: int | None = None) -> None:
        self._lock, self._numbers = threading.RLock(), count(START + 1)
        self._wire: Wire | None = None
        """None while nobody answers."""
        self._hearing: dict[int, Hear] = {}
        """Who waits for what is said, by the number of what they asked."""
        self._folders: dict[str, Path] = {}
        self._hashes: dict[str, str] = {}
        """Of the adapters that are offered, as their folders."""
        self._texts: dict[int, str] = {}
        """How tokens are written, as far as any was said."""
        self._closed, self._key = False, secrets.token_bytes(32)
        self._listener = Listener(authkey=self._key)
        self._ready = Future[None]()
        threading.Thread(target=self._run, name="engine", daemon=True).start()
        arguments = ["--address", str(self._listener.address), "--slots", str(slots), *overrides]
        environment = {**on_cores(threads), KEY: self._key.hex()}
        command = command_of("engine", arguments)
        self._keeper = Keeper("the engine", command, environment, final=REFUSED)
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise
        self._keeper.start()

    @property
    def models(self) -> Mapping[str, str | None]:
        """What can be asked, by name: the base, and adapters with the hash of their weights."""
        return {BASE: None, **self._hashes}

    def submit(self, ask: Ask) -> None:
        """Have a request answered. Raises UnknownModel at once, and Busy while the process is being
        started again; what else is wrong is told."""
        going = ask.count

        def hear(said: Line | Exception) -> bool:
            nonlocal going
            if isinstance(said, Exception):
                ask.give(said)
                return True
            self._texts.update(said["texts"])
            piece = piece_of(said)
            going -= piece.finish is not None
            ask.give(piece)
            return not going

        with self._lock:
            if ask.model not in self.models:
                raise UnknownModel(f"there is no model {ask.model[:200]!r}")
            number = self._say("answer", ask_line(ask), hear)
            ask.on_cancel = lambda: self._cancel(number)

    def load(self, name: str, folder: Path) -> None:
        """Offer the adapter of a PEFT folder, under a name of its own."""
        said = self._done("load", _load_line(name, folder))
        with self._lock:
            self._folders[name] = folder
            self._hashes = {**self._hashes, name: said["sha256"]}

    def unload(self, name: str) -> None:
        """Offer an adapter no more, and free its place when it has given its last answer."""
        with self._lock:
            if name not in self._folders:
                raise UnknownModel(f"there is no model {name[:200]!r}")
            self._withdraw(name)
        self._done("unload", {"name": name})

    def token_text(self, token: int) -> str:
        """How a token that was said is written, special ones too."""
        return self._texts.get(token, "")

    def close(self) -> None:
        """Stop; what is not answered is told so."""
        self._closed = True
        self._keeper.stop()
        self._keeper.wait()
        with suppress(OSError, EOFError, AuthenticationError):
            Client(self._listener.address, authkey=self._key).close()  # Nobody is waited for.
        self._listener.close()
        self._give_up(STOPPED)

    def _say(self, what: str, line: Line, hear: Hear, to: Wire | None = None) -> int:
        """Say something, and have somebody hear what comes of it; its number."""
        with self._lock:
            if (wire := to or self._wire) is None:
                raise Busy("the engine is being started again; try again in a few seconds")
            number = next(self._numbers)
            self._hearing[number] = hear
            wire.say({"number": number, "do": what, **line})
            return number

    def _done(self, what: str, line: Line) -> Line:
        """What comes of something, once it is done. Raises what the process raises."""
        done = Future[Line]()

        def hear(said: Line | Exception) -> bool:
            if isinstance(said, Exception):
                done.set_exception(said)
            else:
                done.set_result(said)
            return True

        self._say(what, line, hear)
        return done.result()

    def _cancel(self, number: int) -> None:
        with self._lock:
            if number in self._hearing and self._wire is not None:
                self._wire.say({"number": number, "do": "cancel"})

    def _withdraw(self, name: str) -> None:
        with self._lock:
            self._folders.pop(name, None)
            self._hashes = {other: found for other, found in self._hashes.items() if other != name}

    def _wait_until_ready(self) -> None:
        """Raises what the process says that is wrong, StateError where it dies without a word."""
        died = None
        while True:
            try:
                return self._ready.result(LOOKS_EVERY)
            except TimeoutError:
                if died is not None:
                    raise StateError(f"the engine died at its start, with code {died}") from None
                died = self._keeper.ended()  # Its last words may be on their way.

    def _run(self) -> None:
        """Hear one process after the other."""
        while True:
            try:
                connection = self._listener.accept()
            except (OSError, EOFError, AuthenticationError):
                connection = None
            if self._closed:
                return
            if connection is not None:
                self._hear_all(Wire(connection))

    def _hear_all(self, wire: Wire) -> None:
        """Hear a process until it is gone."""
        with self._lock:
            self._hearing[START] = lambda said: self._started(said, wire)
        for line in wire.lines():
            with self._lock:
                hear = self._hearing.get(line["number"])
            if hear is not None and hear(error_of(line) if "failed" in line else line):
                with self._lock:
                    self._hearing.pop(line["number"], None)
        with self._lock:
            self._wire = None
        wire.close()
        self._give_up(STOPPED if self._closed else "the engine died; it is being started again")

    def _started(self, said: Line | Exception, wire: Wire) -> bool:
        """It has its model: give it the adapters that the one before had, and then requests."""
        if isinstance(said, Exception):
            if self._ready.done():
                log.error("the engine cannot be started again: %s", said)
            else:
                self._ready.set_exception(said)
            return True
        lacking = dict(self._folders)
        for name, folder in self._folders.items():

            def hear(said: Line | Exception, name: str = name) -> bool:
                if isinstance(said, Exception):
                    log.error("the engine that was started again cannot load %s: %s", name, said)
                    self._withdraw(name)
                elif name not in self._folders:  # It was unloaded meanwhile.
                    self._say("unload", {"name": name}, lambda said: True, wire)
                del lacking[name]
                if not lacking:
                    self._answers_now(wire)
                return True

            self._say("load", _load_line(name, folder), hear, wire)
        if not lacking:
            self._answers_now(wire)
        return True

    def _answers_now(self, wire: Wire) -> None:
        with self._lock:
            self._wire = wire
        if not self._ready.done():
            self._ready.set_result(None)

    def _give_up(self, why: str) -> None:
        """Tell everybody who waits that nothing comes."""
        with self._lock:
            waiting, self._hearing = list(self._hearing.values()), {}
        for hear in waiting:
            hear(StateError(why))


def _load_line(name: str, folder: Path) -> Line:
    return {"name": name, "folder": str(folder.resolve())}
