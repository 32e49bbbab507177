"""Output streams that may go away: a pipe closes, a terminal hangs up.

A lost display must not end a run: standard error falls silent instead.
"""

import os
import sys
from contextlib import suppress
from typing import Any, TextIO


class Silenced:
    """A stream that accepts everything and shows nothing after its first error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, if anybody still reads."""
        try:
            return self._stream.write(text)
        except OSError:
            nobody_reads(self._stream)
            return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts, if anybody still reads."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Show what was written, if anybody still reads."""
        try:
            self._stream.flush()
        except OSError:
            nobody_reads(self._stream)


def nobody_reads(stream: TextIO) -> None:
    """From now on discard what is written to the stream, also by libraries and at exit."""
    with suppress(OSError, ValueError):  # Not every stream is a file.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def survive_a_lost_display() -> None:
    """From now on errors on standard error end no run."""
    sys.stderr = Silenced(sys.stderr)
