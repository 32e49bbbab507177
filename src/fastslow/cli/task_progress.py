"""The progress of single tasks: bars on a terminal, plain lines elsewhere, on standard error."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from fastslow.cli.console import screen

PLAIN_EVERY_S = 10.0


class OnProgress(Protocol):
    """Called with a task, how many of its items are done, and of how many."""

    def __call__(self, task: str, done: int, total: int | None) -> None: ...


class ProgressLines:
    """Reports how far a task is: at most one line in ten seconds, none for a quick task.

    >>> lines = ProgressLines(print, every=0)
    >>> lines("sampling", 32, 64)
    sampling: 32/64
    """

    def __init__(self, say: Callable[[str], None], *, every: float = PLAIN_EVERY_S) -> None:
        self._say = say
        self._every = every
        self._last = time.monotonic()
        self._begun: set[str] = set()

    def __call__(self, task: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        ends = done == total and task in self._begun
        if now - self._last < self._every and not ends:
            return
        self._last = now
        self._begun.add(task)
        if ends:
            self._begun.remove(task)
        self._say(f"{task}: {done}" + ("" if total is None else f"/{total}"))


@contextmanager
def task_progress(*, transient: bool = False) -> Iterator[OnProgress]:
    """Shows the progress of each task; `transient` bars vanish when all are done."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = screen(stderr=True, soft_wrap=True)
    if not console.is_terminal:
        yield ProgressLines(lambda text: console.print(text, markup=False, highlight=False))
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    shown: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=transient) as progress:

        def show(task: str, done: int, total: int | None) -> None:
            if task not in shown:
                shown[task] = progress.add_task(task, total=total)
            progress.update(shown[task], completed=done, total=total)

        yield show
