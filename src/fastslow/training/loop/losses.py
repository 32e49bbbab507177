"""Scores and labels of a batch to the losses of every trained module."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastslow.dynamics import LeaderSelector, chase_terms
from fastslow.evaluation import MetricSums, pair_accuracy
from fastslow.objectives import Objective, PairLogps


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
        opposite = objective(logps.swapped()).loss
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
        if len(logps) != len(delta):
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
