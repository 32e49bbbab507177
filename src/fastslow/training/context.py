"""What all parts of a run share."""

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
    """Who listens, who may stop it, the base that is loaded once, and how one part is trained."""

    listener: Listener
    stop: StopToken
    bases: SharedBase
    train_one: "Callable[[Recipe, Path, RunContext], RunSummary | None]"
    """An ordinary run in a locked folder; None if it was stopped."""

    @property
    def processes(self) -> ProcessGroup:
        """Those that train together."""
        return self.bases.processes

    def train(self, recipe: Recipe, folder: Path) -> RunSummary | None:
        """One part of the run, unless it has been asked to stop."""
        return None if self.stop.received else self.train_one(recipe, folder, self)
