"""Processes that end with the one that started them, even if that is killed."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable

LOOKS_EVERY = 1.0
"""Seconds between two checks that a supervisor is alive."""


def end_with_parent() -> None:
    """End this worker of a process pool at once when the parent is gone.

    It would compute and keep its memory unnoticed. What it writes is complete or absent at any
    time.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "only worker processes have a parent"
    _after(parent.join, lambda: os._exit(1), name="parent-watch")


def end_with(supervisor: int, stop: Callable[[], object]) -> None:
    """Stop this process once the parent that supervises it is gone; it would run on unnoticed."""

    def gone() -> None:
        while os.getppid() == supervisor:
            time.sleep(LOOKS_EVERY)

    _after(gone, stop, name="supervisor-watch")


def _after(wait: Callable[[], object], act: Callable[[], object], *, name: str) -> None:
    def watch() -> None:
        wait()
        act()

    threading.Thread(target=watch, name=name, daemon=True).start()
