"""What the micro-batches of a step add up to, over all processes."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fastslow.evaluation import Tally
from fastslow.objectives import Objective
from fastslow.training.distributed.processes import Team
from fastslow.training.loop.losses import ModuleLoss, add_measured


@dataclass(slots=True)
class StepSums:
    """Sums of every module over a batch, and each example's loss under the leader."""

    tallies: dict[str, Tally]
    """What is reported."""
    observed: dict[str, Tally]
    """What the objective remembers."""
    total: float = 0.0
    """What is minimised."""
    leader_losses: list[float] = field(default_factory=list)
    """In the order of the batch."""

    @classmethod
    def of(cls, names: Iterable[str]) -> "StepSums":
        """Nothing yet."""
        own = tuple(names)
        return cls({n: Tally() for n in own}, {n: Tally() for n in own})

    def add(
        self, losses: dict[str, ModuleLoss], objective: Objective, leader: str, total: float
    ) -> None:
        """Add a micro-batch."""
        count = len(losses[leader].objective)
        for name, loss in losses.items():
            add_measured(self.tallies[name], loss)
            seen = {key: value.item() for key, value in objective.observe(loss.logps).items()}
            self.observed[name].add(seen, count=count)
        self.total += total
        self.leader_losses += losses[leader].objective.tolist()

    def of_all(self, team: Team) -> "StepSums":
        """The sums of all processes, whose shares make up the batch."""
        if team.size == 1:
            return self
        return StepSums(
            {name: team.merged(tally) for name, tally in self.tallies.items()},
            {name: team.merged(tally) for name, tally in self.observed.items()},
            sum(team.exchange(self.total)),
            team.together(self.leader_losses),
        )
