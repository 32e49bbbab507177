"""The importance of each of a module's weights to its domain: diagonal Fisher information (EWC)."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from fastslow.objectives import Objective
from fastslow.scoring import Encoded
from fastslow.training.loop.logps import logps_of, score_reference
from fastslow.training.policies.policies import Policies


def fisher_information(
    policies: Policies,
    name: str,
    reference: str,
    objective: Objective,
    pairs: Sequence[Encoded],
) -> dict[str, Tensor]:
    """Mean squared gradient of each weight of a module over pairs, one pair at a time.

    The likelihood is that of the preferences: the objective's loss is its negative logarithm. This
    is the empirical Fisher information, at the observed labels and without dropout. Keys carry no
    module name.
    """
    parameters = policies.modules.parameters(name)
    sums = {key: torch.zeros_like(value) for key, value in parameters.items()}
    for item in pairs:
        scored = score_reference(policies, objective, [item], reference=reference)
        score = partial(policies.measure, name, learning=True, dropout=False)
        loss = objective(logps_of(scored, objective, score)).loss.sum()
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        for key, gradient in zip(parameters, gradients, strict=True):
            sums[key] += gradient.square()
    return {key.replace(f".{name}.", "."): total / len(pairs) for key, total in sums.items()}
