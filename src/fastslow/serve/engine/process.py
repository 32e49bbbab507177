"""The engine process: it has the model and answers for a server."""

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
"""Exit code of a process that a restart may help."""
START = 0
"""Number of the first request to every engine, which is to load its model."""
CHANGES = 4
"""Adapters loaded and unloaded at once; an adapter is unloaded after its last answer."""


def answer_for_server(address: str, overrides: Sequence[str], *, slots: int) -> None:
    """Load a model and answer a server's requests until the server is gone.

    Raises ConfigError if no server started it. Other errors go to the server, which reports them;
    the process exits with REFUSED if a restart would not help.
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
    """Executes what a server requests."""

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
                reply = error_line(piece)
            else:
                going -= piece.finish is not None
                reply = {**piece_line(piece), "texts": self._new_texts(piece)}
            self._wire.say({"number": number, **reply})
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
            reply = change(line)
        except Exception as error:
            reply = error_line(error)
        self._wire.say({"number": number, **reply})

    def _load(self, line: Line) -> Line:
        self._engine.load(line["name"], Path(line["folder"]))
        return {"sha256": self._engine.models[line["name"]]}

    def _unload(self, line: Line) -> Line:
        self._engine.unload(line["name"])
        return {}
