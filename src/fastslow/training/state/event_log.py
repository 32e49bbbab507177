"""The run's log: events.jsonl, one JSON object per line."""

import json
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import RLock

from fastslow.atomic_io import OWN
from fastslow.disk_errors import disk_errors
from fastslow.errors import StateError
from fastslow.training.state.events import Event
from fastslow.training.state.run_lock import gone

Listener = Callable[[Event], None]
"""Called with every event. An exception it raises ends the run."""
Progress = Callable[[int, int], None]
"""Called with the number of items done and their total."""


def ignore(event: Event) -> None:
    """A listener that does nothing."""


def unwatched(done: int, total: int) -> None:
    """A progress callback that does nothing."""


class OneAtATime:
    """Passes events to a listener one at a time.

    A signal handler may interrupt the main thread anywhere, even inside the listener, which may
    hold a lock or be writing a line. An event that arrives meanwhile waits its turn.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._waiting: deque[Event] = deque()
        self._lock = RLock()  # The handler runs in the thread that it interrupts.
        self._busy = False

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._waiting.append(event)
            while self._waiting and not self._busy:
                self._busy = True
                try:
                    self._listener(self._waiting.popleft())
                finally:
                    self._busy = False


def progress_of(listener: Listener, task: str) -> Progress:
    """A progress callback that reports a task's progress as events."""
    return lambda done, total: listener(
        {"event": "progress", "task": task, "done": done, "total": total}
    )


class EventLog:
    """Appends events to a file, which a resumed run first truncates to its checkpoint's size.

    Raises StateError if the file is shorter than that `size`, and otherwise as `disk_errors`.
    """

    def __init__(self, path: Path, *, size: int = 0) -> None:
        self._path = path
        with disk_errors(path):
            path.touch(mode=OWN)  # Warnings quote rows.
            self._file = path.open("r+b", buffering=0)
            length = self._file.seek(0, os.SEEK_END)
            if length < size:
                self._file.close()
                raise StateError(
                    f"{path} has {length} bytes, but {size} belong to the checkpoint; restore it, "
                    "or remove the run folder to start over"
                )
            self._file.truncate(size)
            self._file.seek(0, os.SEEK_END)

    def write(self, event: Event) -> None:
        """Append one event."""
        rest = (json.dumps(event, ensure_ascii=False) + "\n").encode("utf-8")
        with disk_errors(self._path):
            while rest:  # A nearly full disk may take only part of it.
                rest = rest[self._file.write(rest) :]

    def sync(self) -> int:
        """Make everything written durable; returns the size of the file in bytes.

        Raises StateError if the file is no longer where it was.
        """
        with disk_errors(self._path):
            os.fsync(self._file.fileno())
        if not self._in_place():
            raise gone(self._path.parent)
        return self._file.tell()

    def _in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close the file."""
        self._file.close()
