"""Fits a router: each replay buffer's prompts are labelled by the module with the lowest loss."""

from collections.abc import Sequence
from functools import partial

import torch

from fastslow.adapters import BASE
from fastslow.objectives import Objective
from fastslow.scoring import Encoded
from fastslow.training.loop.logps import logps_of, score_reference
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.routed import Router


def fit_router(
    policies: Policies,
    names: Sequence[str],
    memories: Sequence[Sequence[Encoded]],
    objective: Objective,
) -> Router:
    """The router over the named modules, from one replay buffer per domain."""
    choices = (*names, BASE)
    features, labels = [], []
    for memory in memories:
        losses = _mean_losses(policies, choices, memory, objective)
        best = losses.index(min(losses))
        features.append(policies.embed([item.tree.prompt for item in memory]).cpu())
        labels += [best] * len(memory)
    return Router.fit(choices, torch.cat(features), torch.tensor(labels))


def _mean_losses(
    policies: Policies, names: Sequence[str], pairs: Sequence[Encoded], objective: Objective
) -> list[float]:
    """Mean objective of each named policy against the base."""
    totals = dict.fromkeys(names, 0.0)
    for first in range(0, len(pairs), 32):
        scored = score_reference(policies, objective, pairs[first : first + 32], reference=BASE)
        for name in names:
            logps = logps_of(scored, objective, partial(policies.measure, name))
            totals[name] += objective(logps).loss.sum().item()
    return [total / len(pairs) for total in totals.values()]
