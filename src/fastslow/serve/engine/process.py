"""A process that answers for a server, with the model in it."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Client
from pathlib import Path
from typing import TYPE_CHECKING

from fastslow.config import load_recipe
from fastslow.errors import ConfigError, FastslowError
from fastslow.serve.engine.requests import Ask, Piece
from fastslow.serve.engine.wire import Line, Wire, ask_of, error_line, piece_line
from fastslow.serve.supervised import REFUSED

if TYPE_CHECKING:
    from fastslow.serve.engine.embedded import EmbeddedEngine

KEY = "FASTSLOW_ENGINE_KEY"
"""Environment variable with the secret, in hex, that a server and its engine share."""
FAILED = 1
"""Exit code of a process that may do better when it is started again."""
START = 0
"""Number of what every engine is asked first: to load its model."""
CHANGES = 4
"""Adapters that come and go at a time; one that goes waits for its last answer."""


def answer_for_server(address: str, overrides: Sequence[str], *, slots: int) -> None:
    """Load a model and answer what comes from a server, until it is gone.

    Raises ConfigError where no server has started it. Of what else is wrong the server is told, and
    says it; the process ends with REFUSED where it would be wrong again.
    """
    if (key := os.environ.pop(KEY, None)) is None:
        raise ConfigError("an engine is started by `fastslow serve`; run that")
    wire = Wire(Client(address, authkey=bytes.fromhex(key)))
    try:
        engine = _loaded(overrides, slots)
    except FastslowError as error:
        wire.say({"number": START, **error_line(error)})
        wire.close()
        raise SystemExit(REFUSED if isinstance(error, ConfigError) else FAILED) from None
    wire.say({"number": START})
    with ThreadPoolExecutor(CHANGES, "adapters") as pool:
        answering = _Answering(wire, engine, pool)
        for line in wire.lines():
            answering.hear(line)
        engine.close()


def _loaded(overrides: Sequence[str], slots: int) -> "EmbeddedEngine":
    from fastslow.serve.engine.embedded import EmbeddedEngine

    return EmbeddedEngine(load_recipe({}, [*overrides]), slots=slots)


class _Answering:
    """Does what lines ask for."""

    def __init__(self, wire: Wire, engine: "EmbeddedEngine", pool: ThreadPoolExecutor) -> None:
        self._wire, self._engine, self._pool = wire, engine, pool
        self._asks: dict[int, Ask] = {}
        self._told: set[int] = set()
        """Tokens whose text the server knows."""

    def hear(self, line: Line) -> None:
        number, what = line["number"], line["do"]
        if what == "answer":
            self._answer(number, line)
        elif what == "cancel":
            if (ask := self._asks.get(number)) is not None:
                ask.cancel()
        elif what == "load":
            self._pool.submit(self._change, number, self._load, line)
        else:
            self._pool.submit(self._change, number, self._unload, line)

    def _answer(self, number: int, line: Line) -> None:
        going = int(line["count"])

        def tell(piece: Piece | Exception) -> None:
            nonlocal going
            if isinstance(piece, Exception):
                going = 0
                said = error_line(piece)
            else:
                going -= piece.finish is not None
                said = {**piece_line(piece), "texts": self._new_texts(piece)}
            self._wire.say({"number": number, **said})
            if not going:
                self._asks.pop(number, None)

        ask = self._asks[number] = ask_of(line, tell)
        try:
            self._engine.submit(ask)
        except FastslowError as error:
            tell(error)

    def _new_texts(self, piece: Piece) -> list[tuple[int, str]]:
        new = {*piece.token_ids} - self._told
        self._told |= new
        return [(token, self._engine.token_text(token)) for token in sorted(new)]

    def _change(self, number: int, change: Callable[[Line], Line], line: Line) -> None:
        try:
            said = change(line)
        except Exception as error:
            said = error_line(error)
        self._wire.say({"number": number, **said})

    def _load(self, line: Line) -> Line:
        self._engine.load(line["name"], Path(line["folder"]))
        return {"sha256": self._engine.models[line["name"]]}

    def _unload(self, line: Line) -> Line:
        self._engine.unload(line["name"])
        return {}
