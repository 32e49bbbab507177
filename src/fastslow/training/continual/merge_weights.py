"""The merge weights w_d of the modules of the bank in the combination W + sum_d w_d B_d A_d.

Source: COFS-DPO, arXiv 2406.05534, combines the fast modules of past domains linearly; its rule for
the weights could not be read. Here they are fixed, equal, chosen on a grid, or learned: K scalars
that minimise the mean objective over the domains' replay buffers, with frozen modules. The learned
weights are not constrained to the simplex and have a weak pull towards equality.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice, product
from statistics import fmean

import torch
from torch import Tensor

from fastslow.adapters import BASE, Factors
from fastslow.objectives import Objective
from fastslow.scoring import Encoded
from fastslow.training.continual.memory import endless
from fastslow.training.loop.logps import ReferenceScoredBatch, logps_of, score_reference
from fastslow.training.policies.policies import Policies
from fastslow.training.state.event_log import Progress

GRID = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Weights tried for all older modules together and for the newest."""
GRID_PAIRS = 64
"""Pairs of each replay buffer that a grid point is evaluated on."""
STEPS = 60
BATCH = 8
"""Pairs of each replay buffer per fitting step."""
AT_ONCE = 64
"""Replay buffers in a fitting step; if there are more, they take turns."""
RATE = 0.1
PULL = 0.01
"""Weight of the squared distance from equal weights, in nats."""


class WeightedMerge:
    """The modules side by side on one base, with the weights left open.

    Args:
        policies: holds the plain sum of the modules under `name`.
        modules: the summands, in the order of the weights.
        objective: the loss that is minimised.
    """

    def __init__(
        self, policies: Policies, name: str, modules: Sequence[Factors], objective: Objective
    ) -> None:
        self._policies = policies
        self._objective = objective
        self._name = name
        layers = sorted({layer for module in modules for layer in module.layers})
        self._ranks = {
            layer: torch.tensor(
                [m.layers[layer][0].shape[0] if layer in m.layers else 0 for m in modules]
            )
            for layer in layers
        }

    def score_reference(self, examples: Sequence[Encoded]) -> ReferenceScoredBatch:
        """Examples with the base's scores, which do not depend on the weights."""
        return score_reference(self._policies, self._objective, examples, reference=BASE)

    @contextmanager
    def loss(self, weights: Tensor, prepared: ReferenceScoredBatch) -> Iterator[Tensor]:
        """Mean objective of the weighted sum against the base, scalar, differentiable in `weights`.

        Inside, the weights stay applied, for activation checkpointing in the backward pass.
        """
        columns = {
            layer: weights.repeat_interleave(ranks.to(weights.device))
            for layer, ranks in self._ranks.items()
        }
        measure = partial(self._policies.measure, self._name, learning=weights.requires_grad)
        with self._policies.modules.rank_scales(self._name, columns):
            yield self._objective(logps_of(prepared, self._objective, measure)).loss.mean()


def uniform_weights(count: int) -> list[float]:
    """1/K for each module."""
    return [1 / count] * count


def grid_weights(
    mixture: WeightedMerge,
    memories: Sequence[Sequence[Encoded]],
    *,
    progress: Progress,
) -> list[float]:
    """The best of GRID x GRID on the replay buffers: one weight for all older modules, one for the
    newest.

    A single module has one weight.
    """
    count = len(memories)
    older = GRID if count > 1 else (0.0,)
    points = [[old] * (count - 1) + [new] for old, new in product(older, GRID)]
    prepared = [_groups(mixture, memory[:GRID_PAIRS]) for memory in memories]
    losses = []
    for index, point in enumerate(points):
        weights = torch.tensor(point)
        losses.append(fmean(_mean_loss(mixture, weights, memory) for memory in prepared))
        progress(index + 1, len(points))
    return points[losses.index(min(losses))]


def learned_weights(
    mixture: WeightedMerge,
    memories: Sequence[Sequence[Encoded]],
    *,
    seed: int,
    progress: Progress,
) -> list[float]:
    """Weights that minimise the mean objective over the replay buffers, with equal domain weights.

    Adam on K scalars over small batches from AT_ONCE replay buffers, or all if there are fewer,
    with its rate decaying to zero; returns the mean over the last half of the steps.
    """
    count = len(memories)
    equal = torch.full((count,), 1 / count)
    weights = equal.clone().requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=RATE)
    draws = [endless(memory, f"{seed}/weights/{i}") for i, memory in enumerate(memories)]
    turns = endless(range(count), f"{seed}/weights/turns")
    kept: list[Tensor] = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        taking = draws if count <= AT_ONCE else [draws[i] for i in islice(turns, AT_ONCE)]
        examples = [next(draw) for draw in taking for _ in range(BATCH)]
        with mixture.loss(weights, mixture.score_reference(examples)) as loss:
            (loss + PULL * (weights - equal).square().sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step >= STEPS // 2:
            kept.append(weights.detach().clone())
        progress(step + 1, STEPS)
    mean: list[float] = torch.stack(kept).mean(0).tolist()
    return mean


def _groups(
    mixture: WeightedMerge, examples: Sequence[Encoded]
) -> list[tuple[int, ReferenceScoredBatch]]:
    """The examples in passes that fit in memory, each with its size."""
    size = 4 * BATCH
    groups = (examples[i : i + size] for i in range(0, len(examples), size))
    return [(len(group), mixture.score_reference(group)) for group in groups]


def _mean_loss(
    mixture: WeightedMerge,
    weights: Tensor,
    groups: Sequence[tuple[int, ReferenceScoredBatch]],
) -> float:
    total = 0.0
    for count, group in groups:
        with mixture.loss(weights, group) as loss:
            total += count * float(loss)
    return total / sum(count for count, _ in groups)
