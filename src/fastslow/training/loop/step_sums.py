"""Sums over the micro-batches of a step and over all processes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastslow.evaluation import MetricSums
from fastslow.objectives import Objective
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.loop.losses import ModuleLoss, add_measured


@dataclass(slots=True)
class StepSums:
    """Sums of every module over a batch, and each example's loss under the leader."""

    metrics: dict[str, MetricSums]
    """What is reported."""
    observed: dict[str, MetricSums]
    """Running statistics of the objective."""
    total: float = 0.0
    """What is minimised."""
    leader_losses: list[float] = field(default_factory=list)
    """In the order of the batch."""

    @classmethod
    def of(cls, names: Iterable[str]) -> "StepSums":
        """Nothing yet."""
        own = tuple(names)
        return cls({n: MetricSums() for n in own}, {n: MetricSums() for n in own})

    def add(
        self, losses: dict[str, ModuleLoss], objective: Objective, leader: str, total: float
    ) -> None:
        """Add a micro-batch."""
        count = len(losses[leader].objective)
        for name, loss in losses.items():
            add_measured(self.metrics[name], loss)
            seen = {key: value.item() for key, value in objective.observe(loss.logps).items()}
            self.observed[name].add(seen, count=count)
        self.total += total
        self.leader_losses += losses[leader].objective.tolist()

    def of_all(self, processes: ProcessGroup) -> "StepSums":
        """The sums of all processes, whose shares make up the batch."""
        if processes.size == 1:
            return self
        return StepSums(
            {name: processes.merged(totals) for name, totals in self.metrics.items()},
            {name: processes.merged(totals) for name, totals in self.observed.items()},
            sum(processes.all_gather(self.total)),
            processes.gather(self.leader_losses),
        )


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one batch showed, before the update where nothing else is said."""

    step: int
    """Optimiser steps finished, this one included."""
    num_examples: int
    leader: str
    """The module that led while the batch was scored."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Means over the batch under the leader: loss, accuracy, margin (nats), and the log-probs and
    log-ratios (nats per response) of the sides that the batch has."""
    modules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of each module: loss, margin, learning_rate, grad_norm (None in steps where it is not
    updated), and the metrics of objective and gradient terms. Includes a critic."""
    updated: bool = True
    """False where no step was made: the policy has moved too far from the completions, or a number
    was not finite and such batches are set aside."""
    swapped: bool = False
    """Whether another module leads from now on."""
    drifted: bool = False
    """Whether the preferences have changed so far that the domain ends."""
    beyond_budget: Mapping[str, float] = field(default_factory=dict)
    """The modules that were beyond the KL budget after this step, with their KL over it."""
    warnings: tuple[str, ...] = ()
