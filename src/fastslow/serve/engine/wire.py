"""Messages between a server and its engine process: JSON over a connection of their own."""

import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from fastslow.errors import ConfigError, FastslowError, StateError
from fastslow.feedback import Malformed
from fastslow.serve.engine.requests import Ask, Busy, Piece, TooLong, UnknownModel

Line = Mapping[str, Any]
Tell = Callable[[Piece | Exception], None]
KINDS = {
    kind.__name__: kind
    for kind in (Busy, TooLong, Malformed, UnknownModel, ConfigError, StateError)
}
"""Subclasses come before their bases."""


class Wire:
    """One end of a connection; any thread may send, one receives.

    Lines queued while others are being sent go out together after them.
    """

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._said: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send, name="wire", daemon=True)
        self._sender.start()

    def say(self, line: Line) -> None:
        """Queue a line to be sent; it is lost if the other end is gone."""
        self._said.put(line)

    def lines(self) -> Iterator[Line]:
        """Lines from the other end until it is gone."""
        while True:
            try:
                # Bytes, because `recv` would unpickle.
                batch = json.loads(self._connection.recv_bytes())
            except (EOFError, OSError):
                return
            yield from batch

    def close(self) -> None:
        """Send what is queued, and close the connection."""
        self._said.put(None)
        self._sender.join()
        self._connection.close()

    def _send(self) -> None:
        over = False
        while not over:
            lines = [self._said.get()]
            while not self._said.empty():
                lines.append(self._said.get())
            over = None in lines
            batch = json.dumps([line for line in lines if line is not None])
            with suppress(OSError):  # The receiving thread notices that the other end is gone.
                self._connection.send_bytes(batch.encode())


def ask_line(ask: Ask) -> Line:
    """The line for a request."""
    return {
        "messages": [*ask.messages],
        "model": ask.model,
        "count": ask.count,
        "seed": ask.seed,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        "max_tokens": ask.max_tokens,
        "stop": ask.stop,
    }


def ask_of(line: Line, tell: Tell) -> Ask:
    """The request in a line."""
    return Ask(
        line["messages"],
        tell,
        line["model"],
        line["count"],
        line["seed"],
        line["temperature"],
        line["top_p"],
        line["max_tokens"],
        tuple(line["stop"]),
    )


def piece_line(piece: Piece) -> Line:
    """The line for a piece of an answer."""
    return {
        "index": piece.index,
        "text": piece.text,
        "tokens": piece.token_ids,
        "logps": piece.logps,
        "prompt_tokens": piece.prompt_tokens,
        "finish": piece.finish,
    }


def piece_of(line: Line) -> Piece:
    """The piece in a line."""
    tokens, logps = tuple(line["tokens"]), tuple(line["logps"])
    return Piece(line["index"], line["text"], tokens, logps, line["prompt_tokens"], line["finish"])


def error_line(error: Exception) -> Line:
    """The line for an error."""
    name = next((name for name, kind in KINDS.items() if isinstance(error, kind)), "StateError")
    text = str(error) if isinstance(error, FastslowError) else f"the engine failed: {error!r}"
    return {"failed": name, "why": text}


def error_of(line: Line) -> Exception:
    """The error in a line."""
    return KINDS[line["failed"]](line["why"])
