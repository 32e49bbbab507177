"""The run's log: events.jsonl, one JSON object a line."""

import json
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import RLock

from fastslow.training.state.events import Event

Listener = Callable[[Event], None]
"""Is given every event. What it raises ends the run."""
Progress = Callable[[int, int], None]
"""Is given how many of how many items are done."""


def ignore(event: Event) -> None:
    """The listener that does nothing."""


def unwatched(done: int, total: int) -> None:
    """The progress that nobody watches."""


class OneAtATime:
    """Gives a listener its events one after the other.

    A signal's handler runs in the middle of whatever the main thread does, also of the listener,
    which may hold a lock or be writing a line. An event that comes meanwhile waits its turn.
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
    """Progress of a task as events."""
    return lambda done, total: listener(
        {"event": "progress", "task": task, "done": done, "total": total}
    )


class EventLog:
    """Appends events to a file that a resumed run first cuts back to its checkpoint."""

    def __init__(self, path: Path, *, size: int = 0) -> None:
        path.touch()
        self._file = path.open("r+b")
        self._file.truncate(size)
        self._file.seek(0, os.SEEK_END)

    def write(self, event: Event) -> None:
        """Append one event."""
        line = json.dumps(event, ensure_ascii=False) + "\n"
        self._file.write(line.encode("utf-8"))
        self._file.flush()

    def sync(self) -> int:
        """Make everything written durable; the size of the file in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
