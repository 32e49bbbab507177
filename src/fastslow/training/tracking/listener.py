"""A listener that hands what a run measures to its trackers.

Parts of a run count their steps from 1; a tracker is given the steps of all.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any

from fastslow.config import Recipe
from fastslow.training.state.event_log import Listener
from fastslow.training.state.events import Event
from fastslow.training.state.summary import read_summary
from fastslow.training.tracking.opening import open_tracker
from fastslow.training.tracking.series import Series


class Trackers:
    """The trackers of one run, opened with its first part's start.

    One that fails later is closed, which is said once, and the run goes on without it.

    Args:
        recipe: of the whole run.
        folder: of the whole run.
        warn: is told of a tracker that fails.
    """

    def __init__(self, recipe: Recipe, folder: Path, warn: Listener) -> None:
        self._recipe = recipe
        self._folder = folder
        self._warn = warn
        self._open: dict[str, Any] | None = None
        self._series = Series([], None, rewards=False)
        self._before = 0
        """Steps of the parts that are finished."""
        self._step = 0
        """Steps of this part."""
        self._context = copy_context()
        """Where trackers keep which run is theirs: what they find at the process's end, they end
        and report again."""

    def hear(self, event: Any) -> None:
        """Tell the trackers what an event measured. Raises ConfigError where one cannot be
        started."""
        match event["event"]:
            case "start":
                self._start(event)
            case "complete":
                self._before, self._step = self._before + self._step, 0
            case "already_complete":
                self._before += _steps_of(Path(event["folder"]))
            case kind:
                if kind in ("step", "eval"):
                    self._step = event["step"]
                if numbers := self._series.numbers(event):
                    step = self._before + self._step
                    self._each(lambda tracker: tracker.log(numbers, step=step))

    def close(self) -> None:
        """End the trackers' runs."""
        self._each(lambda tracker: tracker.finish())

    def _start(self, event: Any) -> None:
        self._step = event["step"]
        rewards = event["task"] == "reward"
        self._series = Series(event["modules"], event["beta"], rewards=rewards)
        if self._open is not None:
            return
        step, self._open = self._before + self._step, {}
        for name in self._recipe.trackers:
            resumed = event["resumed"] or self._before > 0
            opening = partial(
                open_tracker, name, self._recipe, self._folder, step=step, resumed=resumed
            )
            self._open[name] = self._aside(opening)

    def _aside(self, do: Callable[..., Any], *arguments: Any) -> Any:
        # Standard output is for results.
        with redirect_stdout(sys.stderr):
            return self._context.run(do, *arguments)

    def _each(self, do: Callable[[Any], None]) -> None:
        for name, tracker in list((self._open or {}).items()):
            try:
                self._aside(do, tracker)
            except Exception as error:  # The run is worth more than its curve elsewhere.
                assert self._open is not None
                del self._open[name]
                said = " ".join(str(error).split()) or type(error).__name__
                message = f"report_to: {name} failed, and is told nothing more: {said}"
                self._warn({"event": "warning", "message": message})


def _steps_of(folder: Path) -> int:
    """Of a part that was finished before, or of a whole run, after which nothing comes."""
    summary = folder / "summary.json"
    return read_summary(summary).steps if summary.exists() else 0


@contextmanager
def tracked(recipe: Recipe, folder: Path, listener: Listener) -> Iterator[Listener]:
    """The listener, with the trackers that a recipe names beside it."""
    if not recipe.trackers:
        yield listener
        return
    trackers = Trackers(recipe, folder, listener)

    def hear(event: Event) -> None:
        listener(event)
        trackers.hear(event)

    try:
        yield hear
    finally:
        trackers.close()
