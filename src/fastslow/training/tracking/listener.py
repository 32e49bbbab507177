"""A listener that passes a run's metrics to its trackers.

Each part of a run counts its steps from 1; trackers get a step number that runs on over all parts.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
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
    """The trackers of one run, opened when its first part starts.

    A tracker that fails later is dropped with a warning, and the run continues without it.

    Args:
        recipe: of the whole run.
        folder: of the whole run.
        warn: called with a warning if a tracker fails.
    """

    def __init__(self, recipe: Recipe, folder: Path, warn: Listener) -> None:
        self._recipe = recipe
        self._folder = folder
        self._warn = warn
        self._open: dict[str, Any] | None = None
        self._series = Series([], None, rewards=False)
        self._before = 0
        """Steps of the finished parts."""
        self._step = 0
        """Steps of this part."""
        self._context = copy_context()
        """Context in which trackers keep their current run: any that they find at process exit,
        they would end and report again."""

    def hear(self, event: Any) -> None:
        """Pass an event's metrics to the trackers. Raises ConfigError if one cannot be started."""
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
        """Finish the trackers' runs."""
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
            self._open[name] = self._in_context(opening)

    def _in_context(self, do: Callable[..., Any], *arguments: Any) -> Any:
        # Standard output is for results.
        with redirect_stdout(sys.stderr):
            return self._context.run(do, *arguments)

    def _each(self, do: Callable[[Any], None]) -> None:
        for name, tracker in list((self._open or {}).items()):
            try:
                self._in_context(do, tracker)
            except Exception as error:  # A failing tracker must not end the run.
                assert self._open is not None
                del self._open[name]
                with suppress(Exception):  # Its run is not left open, if it can still be ended.
                    self._in_context(tracker.finish)
                reason = " ".join(str(error).split()) or type(error).__name__
                message = f"report_to: {name} failed and gets no more metrics: {reason}"
                self._warn({"event": "warning", "message": message})


def _steps_of(folder: Path) -> int:
    """Steps of a part that had already finished; for a whole run, nothing follows anyway."""
    summary = folder / "summary.json"
    return read_summary(summary).steps if summary.exists() else 0


@contextmanager
def tracked(recipe: Recipe, folder: Path, listener: Listener) -> Iterator[Listener]:
    """A listener that also passes events to the trackers that the recipe names."""
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
