"""The command lines that made a run, in its folder: one a line, to be pasted into a shell."""

import os
import shlex
import sys
from pathlib import Path

from fastslow.atomic_io import write_text
from fastslow.training.state.event_log import Listener
from fastslow.training.state.events import Event

COMMANDS = "commands.txt"


def this_command() -> str | None:
    """The `fastslow` command that this process is, with the folder it was given in; None where
    Python called the library.

    Secrets are in no command line: recipes name the variables that hold them.
    """
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.stem
    if name != "fastslow":
        return None
    return shlex.join(["cd", os.getcwd()]) + " && " + shlex.join(["fastslow", *sys.argv[1:]])


def noted(folder: Path, listener: Listener) -> Listener:
    """The listener, and with the start of the run or of a part this process' command in its folder,
    unless it is the same as the last one there."""
    command, path = this_command(), folder / COMMANDS

    def note(event: Event) -> None:
        if command is not None and event["event"] == "start":
            known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            if known[-1:] != [command]:
                write_text(path, "".join(f"{line}\n" for line in [*known, command]), private=True)
        listener(event)

    return note
