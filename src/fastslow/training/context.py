"""What all parts of a run share: listener, stop token, base, processes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastslow.config import Recipe
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.loop.signals import StopToken
from fastslow.training.policies.loading import SharedBase
from fastslow.training.state.event_log import Listener
from fastslow.training.state.summary import RunSummary


@dataclass(frozen=True, slots=True)
class RunContext:
    """The listener, the stop token, the base, loaded once, and the function that trains a part."""

    listener: Listener
    stop: StopToken
    bases: SharedBase
    train_one: "Callable[[Recipe, Path, RunContext], RunSummary | None]"
    """Trains an ordinary run in a locked folder; returns None if it was stopped."""

    @property
    def processes(self) -> ProcessGroup:
        """The processes that train together."""
        return self.bases.processes

    def train(self, recipe: Recipe, folder: Path) -> RunSummary | None:
        """Train one part of the run, unless the run has been asked to stop."""
        return None if self.stop.received else self.train_one(recipe, folder, self)
