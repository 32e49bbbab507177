"""Keeps the command lines that made a run in its folder, one per line, to paste into a shell."""

import os
import shlex
import sys
from pathlib import Path

from fastslow.atomic_io import write_text
from fastslow.training.state.event_log import Listener
from fastslow.training.state.events import Event

COMMANDS = "commands.txt"


def this_command() -> str | None:
    """The `fastslow` command this process runs, with its working directory; None if the library
    was called from Python.

    No command line contains secrets: recipes name the variables that hold them.
    """
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.stem
    if name != "fastslow":
        return None
    return shlex.join(["cd", os.getcwd()]) + " && " + shlex.join(["fastslow", *sys.argv[1:]])


def noted(folder: Path, listener: Listener) -> Listener:
    """A listener that also appends this process' command to the folder's list when the run or a
    part starts, unless the last one there is the same."""
    command, path = this_command(), folder / COMMANDS

    def note(event: Event) -> None:
        if command is not None and event["event"] == "start":
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            if lines[-1:] != [command]:
                write_text(path, "".join(f"{line}\n" for line in [*lines, command]), private=True)
        listener(event)

    return note
