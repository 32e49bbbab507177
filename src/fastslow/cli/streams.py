"""What the command writes to, which may go away: a pipe closes, a terminal hangs up.

What is shown of a run is not worth the run: standard error falls silent instead.
"""

import os
import sys
from contextlib import suppress
from typing import Any, TextIO


class Silenced:
    """A stream that takes everything and shows nothing from the first error on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, if anybody is there."""
        try:
            return self._stream.write(text)
        except OSError:
            nobody_reads(self._stream)
            return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts, if anybody is there."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Show what was written, if anybody is there."""
        try:
            self._stream.flush()
        except OSError:
            nobody_reads(self._stream)


def nobody_reads(stream: TextIO) -> None:
    """From now on what is written to the stream, also by libraries and at exit, goes nowhere."""
    with suppress(OSError, ValueError):  # Not every stream is a file.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def survive_a_lost_display() -> None:
    """From now on an error of standard error ends no run."""
    sys.stderr = Silenced(sys.stderr)
