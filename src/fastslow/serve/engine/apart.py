"""An engine whose model runs in a separate process, which is restarted when it dies.

Decoding and votes then share no interpreter: a vote does not wait for a token. If the model dies,
for example out of memory, answers are lost but no votes.
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
"""Seconds between two checks whether the starting process has died."""
STOPPED = "the engine was stopped"
Hear = Callable[[Line | Exception], bool]
"""Handles a reply to a request; returns whether it was the last."""
log = logging.getLogger(__name__)


class ApartEngine:
    """Answers with a model in another process of this machine.

    Args:
        overrides: settings of a recipe, for the model, template and length limit.
        slots: number of adapter slots at the start.
        threads: number that decode; None: as many as there are cores.

    Raises ConfigError for a model that cannot be loaded, StateError if the process dies of it.
    """

    def __init__(self, overrides: Sequence[str], *, slots: int, threads: int | None = None) -> None:
        self._lock, self._numbers = threading.RLock(), count(START + 1)
        self._wire: Wire | None = None
        """None while no process is ready."""
        self._hearing: dict[int, Hear] = {}
        """Handlers of replies, by the number of the request."""
        self._folders: dict[str, Path] = {}
        self._hashes: dict[str, str] = {}
        """Of the adapters that are offered, as are `_folders`."""
        self._texts: dict[int, str] = {}
        """Texts of the tokens generated so far."""
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
        """Models by name: the base, and adapters with the hash of their weights."""
        return {BASE: None, **self._hashes}

    def submit(self, ask: Ask) -> None:
        """Send a request. Raises UnknownModel immediately, and Busy while the process is being
        restarted; other errors go to `ask.tell`."""
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
        """Load the adapter in a PEFT folder and offer it under a new name."""
        reply = self._done("load", _load_line(name, folder))
        with self._lock:
            self._folders[name] = folder
            self._hashes = {**self._hashes, name: reply["sha256"]}

    def unload(self, name: str) -> None:
        """Stop offering an adapter, and free its slot after its last answer."""
        with self._lock:
            if name not in self._folders:
                raise UnknownModel(f"there is no model {name[:200]!r}")
            self._withdraw(name)
        self._done("unload", {"name": name})

    def token_text(self, token: int) -> str:
        """Text of a token that was generated, also of special ones."""
        return self._texts.get(token, "")

    def close(self) -> None:
        """Stop; unfinished requests get an error."""
        self._closed = True
        self._keeper.stop()
        self._keeper.wait()
        with suppress(OSError, EOFError, AuthenticationError):
            Client(
                self._listener.address, authkey=self._key
            ).close()  # Ends the wait for a process.
        self._listener.close()
        self._give_up(STOPPED)

    def _say(self, what: str, line: Line, hear: Hear, to: Wire | None = None) -> int:
        """Send a message and register the handler of its replies; the message's number."""
        with self._lock:
            if (wire := to or self._wire) is None:
                raise Busy("the engine is restarting; try again in a few seconds")
            number = next(self._numbers)
            self._hearing[number] = hear
            wire.say({"number": number, "do": what, **line})
            return number

    def _done(self, what: str, line: Line) -> Line:
        """Send a message and wait for its reply. Raises what the process raises."""
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
            self._hashes = {
                other: digest for other, digest in self._hashes.items() if other != name
            }

    def _wait_until_ready(self) -> None:
        """Raises the error that the process reports, StateError if it dies without one."""
        died = None
        while True:
            try:
                return self._ready.result(LOOKS_EVERY)
            except TimeoutError:
                if died is not None:
                    raise StateError(f"the engine died at its start, with code {died}") from None
                died = self._keeper.ended()  # Its error may still be on the way.

    def _run(self) -> None:
        """Handle the replies of one process after the other."""
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
        """Handle a process's replies until it is gone."""
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
        self._give_up(STOPPED if self._closed else "the engine died; it is restarting")

    def _started(self, said: Line | Exception, wire: Wire) -> bool:
        """The model is loaded: load the adapters of the previous process, then send requests."""
        if isinstance(said, Exception):
            if self._ready.done():
                log.error("the engine cannot be restarted: %s", said)
            else:
                self._ready.set_exception(said)
            return True
        pending = dict(self._folders)
        for name, folder in self._folders.items():

            def hear(said: Line | Exception, name: str = name) -> bool:
                if isinstance(said, Exception):
                    log.error("the restarted engine cannot load %s: %s", name, said)
                    self._withdraw(name)
                elif name not in self._folders:  # It was unloaded meanwhile.
                    self._say("unload", {"name": name}, lambda said: True, wire)
                del pending[name]
                if not pending:
                    self._answers_now(wire)
                return True

            self._say("load", _load_line(name, folder), hear, wire)
        if not pending:
            self._answers_now(wire)
        return True

    def _answers_now(self, wire: Wire) -> None:
        with self._lock:
            self._wire = wire
        if not self._ready.done():
            self._ready.set_result(None)

    def _give_up(self, why: str) -> None:
        """Fail all waiting requests."""
        with self._lock:
            waiting, self._hearing = list(self._hearing.values()), {}
        for hear in waiting:
            hear(StateError(why))


def _load_line(name: str, folder: Path) -> Line:
    return {"name": name, "folder": str(folder.resolve())}
