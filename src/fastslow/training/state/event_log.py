"""The run's log: events.jsonl, one JSON object a line."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from fastslow.training.state.events import Event

Listener = Callable[[Event], None]
"""Is given every event; it cannot change the run."""
Progress = Callable[[int, int], None]
"""Is given how many of how many items are done."""


def ignore(event: Event) -> None:
    """The listener that does nothing."""


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
