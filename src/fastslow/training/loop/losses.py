"""Scores and labels of a batch to the losses of every trained module.

What an objective takes from the batch as a whole is measured before the batch is split: into
micro-batches, and over the processes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastslow.config import Recipe
from fastslow.dynamics import LeaderSelector, chase_terms
from fastslow.evaluation import MetricSums, pair_accuracy
from fastslow.objectives import Objective, PairLogps
from fastslow.scoring import Encoded
from fastslow.training.loop.logps import (
    confidences_of,
    logps_of,
    mismatched_trees,
    score_reference,
    weights_of,
)
from fastslow.training.memory.micro_batches import MicroBatches
from fastslow.training.policies.policies import Policies
from fastslow.training.state.state import TrainingState


@dataclass(frozen=True, slots=True)
class ModuleLoss:
    """One module's losses on a batch of examples, each [B]."""

    logps: Any
    """What the objective was called with."""
    objective: Tensor
    """The preference loss alone, which decides who leads."""
    total: Tensor
    """What the module minimises: the preference loss and its side of the chase."""

    @property
    def delta(self) -> Tensor:
        """m - m_ref, [B], nats, detached."""
        delta: Tensor = self.logps.delta.detach()
        return delta


def objective_alone(logps: Any, objective: Objective) -> ModuleLoss:
    """The loss of one policy on labels taken as they are, without a chase."""
    loss = objective(logps).loss
    return ModuleLoss(logps, loss.detach(), loss)


def labelled_loss(
    objective: Objective, logps: Any, *, weight: Tensor, confidence: Tensor | None
) -> Tensor:
    """The objective's loss for labels that may be wrong or count differently, [B].

    Args:
        objective: the loss of a label that is right.
        logps: what it is called with.
        weight: how much each example counts, [B].
        confidence: probability that each label is right, [B]; the rest of it is the opposite
            label's. Only pairs have an opposite. None where all labels are sure.
    """
    loss = objective(logps).loss
    if isinstance(logps, PairLogps) and confidence is not None:
        opposite = objective.opposite_loss(logps)
        loss = torch.where(confidence < 1, confidence * loss + (1 - confidence) * opposite, loss)
    return weight * loss


def _preference(logps: Any, confidence: Tensor | None) -> Tensor | float:
    """How much more likely each label is right than wrong, [B]; 0 for ties."""
    sure = 1.0 if confidence is None else 2 * confidence - 1
    tie = logps.extras.get("tie") if isinstance(logps, PairLogps) else None
    return sure if tie is None else sure * (1 - tie)


def add_measured(totals: MetricSums, loss: ModuleLoss) -> None:
    """Add what is reported of one module on a batch to its tally."""
    delta = loss.delta
    values = {"loss": loss.objective, "accuracy": pair_accuracy(delta), "margin": delta}
    counts: dict[str, int] = {}
    for side, (logps, log_ratios) in loss.logps.sides().items():
        own = {f"{side}_logp": logps, f"{side}_log_ratio": log_ratios}
        values |= own
        counts |= dict.fromkeys(own, len(logps))
    sums = {key: value.detach().cpu().double().sum().item() for key, value in values.items()}
    totals.add(sums, count=len(delta), counts=counts)


def module_losses(
    logps: Mapping[str, Any],
    objective: Objective,
    selector: LeaderSelector,
    *,
    alpha: float,
    weight: Tensor,
    confidence: Tensor | None,
) -> dict[str, ModuleLoss]:
    """The loss of every chasing module on the same examples, by module.

    `alpha` is the weight of the chase term between the leader and each chaser; a single module has
    none. With several chasers the leader's term is their mean. The margin is that of the objective,
    and counts as far as a label is more likely right than wrong, 2 confidence - 1.
    """
    losses = {
        name: labelled_loss(objective, values, weight=weight, confidence=confidence)
        for name, values in logps.items()
    }
    totals = dict(losses)
    leader = selector.leader
    surer = weight * _preference(logps[leader], confidence)
    chasers = [name for name in selector.modules if name != leader]
    for chaser in chasers:
        leader_term, chaser_term = chase_terms(
            objective.chase_margin(logps[leader]),
            objective.chase_margin(logps[chaser]),
            alpha=alpha * objective.chase_scale,
            beta=objective.chase_beta,
        )
        totals[leader] = totals[leader] + surer * leader_term / len(chasers)
        totals[chaser] = totals[chaser] + surer * chaser_term
    return {
        name: ModuleLoss(logps[name], losses[name].detach(), totals[name])
        for name in selector.modules
    }


class BatchLosses:
    """Scores examples under the reference and every trained module.

    Args:
        recipe: an ordinary run's.
        policies: of the modules and their reference.
        state: who leads, running statistics, cached scores of the reference.
        micro_batches: how a batch is split.
        reference: name of the policy that the objective compares with.
        temperature: of the log-probs.
    """

    def __init__(
        self,
        recipe: Recipe,
        policies: Policies,
        state: TrainingState,
        micro_batches: MicroBatches,
        *,
        reference: str,
        temperature: float,
    ) -> None:
        self._alpha = recipe.chase.alpha if recipe.chase else 0.0
        self._policies = policies
        self._state = state
        self._micro_batches = micro_batches
        self._reference = reference
        self._temperature = temperature

    def baselines(
        self,
        objective: Objective,
        batch: Sequence[Encoded],
        attempt: Callable[[Callable[[], MetricSums]], MetricSums],
    ) -> dict[str, float]:
        """Each module's mean log-ratio of the whole batch's mismatched responses, nats, if the
        objective needs it; `attempt` makes this process's part of it."""
        if "mismatched_log_ratio" not in objective.needs:
            return {}
        own = attempt(partial(self._mismatched, batch))
        return self._policies.processes.merged(own).means()

    def _mismatched(self, batch: Sequence[Encoded]) -> MetricSums:
        sums, policies = MetricSums(), self._policies
        trees = mismatched_trees([item.tree for item in batch])
        for some, is_real in self._micro_batches.shares(trees):
            other = policies.batch(some)
            reference = policies.score(self._reference, other)
            found = {
                name: float((policies.score(name, other) - reference).cpu().double().sum())
                for name in self._state.selector.modules
            }
            if is_real:
                sums.add(found, count=len(some))
        return sums

    def of(
        self,
        objective: Objective,
        items: Sequence[Encoded],
        updating: tuple[str, ...],
        baselines: Mapping[str, float],
        *,
        seed: int,
    ) -> dict[str, ModuleLoss]:
        """The losses by module, with gradients for those that are updated; `baselines` are the
        whole batch's."""
        policies, state = self._policies, self._state
        scored = score_reference(
            policies,
            objective,
            items,
            reference=self._reference,
            seed=seed,
            temperature=self._temperature,
            reference_cache=state.reference_cache,
            in_batch=False,
        )
        settings: dict[str, Any] = {
            "temperature": self._temperature,
            # Completions with importance weights were sampled without dropout.
            "dropout": not objective.on_policy,
        }
        logps = {
            name: logps_of(
                scored,
                objective,
                partial(policies.measure, name, learning=name in updating, **settings),
                state=state.running[name],
                mismatched=baselines.get(name),
            )
            for name in state.selector.modules
        }
        device = scored.batch.lengths.device
        return module_losses(
            logps,
            objective,
            state.selector,
            alpha=self._alpha,
            weight=weights_of(items, device),
            confidence=confidences_of(items, device),
        )
