"""How much each module of the bank counts in the combination W + sum_d w_d B_d A_d.

Source: COFS-DPO, arXiv 2406.05534, combines the fast modules of past domains linearly; how it picks
the weights is not public. Here they are given, equal, tried on a grid, or learned: K scalars that
minimise the mean objective over the domains' memories, the modules frozen. The learned weights are
not confined to the simplex and feel a weak pull towards equality.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from statistics import fmean

import torch
from torch import Tensor

from fastslow.adapters import BASE, Factors
from fastslow.objectives import Objective
from fastslow.scoring import Encoded
from fastslow.training.loop.logps import Prepared, logps_of, prepare
from fastslow.training.policies.policies import Policies
from fastslow.training.state.event_log import Progress

GRID = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Weights that are tried for the older modules together and for the newest."""
GRID_PAIRS = 64
"""Pairs of each memory that a grid point is judged on."""
STEPS = 60
BATCH = 8
"""Pairs of each memory in one step of learning."""
RATE = 0.1
PULL = 0.01
"""Weight of the squared distance from equal weights, in nats."""


class Mixture:
    """The modules side by side on one base, with the weights left open.

    Args:
        policies: holds the plain sum of the modules under `name`.
        modules: the summands, in the order of the weights.
        objective: what weights are judged by.
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

    def prepare(self, examples: Sequence[Encoded]) -> Prepared:
        """Some examples with the base's scores, which no weight changes."""
        return prepare(self._policies, self._objective, examples, reference=BASE)

    @contextmanager
    def loss(self, weights: Tensor, prepared: Prepared) -> Iterator[Tensor]:
        """Mean objective of the weighted sum against the base, a scalar; differentiable in [K].

        Inside the modules stay weighed, for layers that are computed anew in the backward pass.
        """
        columns = {
            layer: weights.repeat_interleave(ranks.to(weights.device))
            for layer, ranks in self._ranks.items()
        }
        measure = partial(self._policies.measure, self._name, learning=weights.requires_grad)
        with self._policies.modules.weighed(self._name, columns):
            yield self._objective(logps_of(prepared, self._objective, measure)).loss.mean()


def uniform_weights(count: int) -> list[float]:
    """1/K for each module."""
    return [1 / count] * count


def grid_weights(
    mixture: Mixture,
    memories: Sequence[Sequence[Encoded]],
    *,
    progress: Progress,
) -> list[float]:
    """The best of GRID x GRID on the memories: a weight for all older modules, one for the newest.

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
    mixture: Mixture,
    memories: Sequence[Sequence[Encoded]],
    *,
    seed: int,
    progress: Progress,
) -> list[float]:
    """Weights that minimise the mean objective over the memories, every domain counting alike.

    Adam on K scalars over small batches from every memory, its rate falling to zero; what comes
    back is the mean over the last half of the steps.
    """
    count = len(memories)
    equal = torch.full((count,), 1 / count)
    weights = equal.clone().requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=RATE)
    draws = [_endless(memory, f"{seed}/weights/{i}") for i, memory in enumerate(memories)]
    kept: list[Tensor] = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        examples = [next(draw) for draw in draws for _ in range(BATCH)]
        with mixture.loss(weights, mixture.prepare(examples)) as loss:
            (loss + PULL * (weights - equal).square().sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step >= STEPS // 2:
            kept.append(weights.detach().clone())
        progress(step + 1, STEPS)
    mean: list[float] = torch.stack(kept).mean(0).tolist()
    return mean


def _groups(mixture: Mixture, examples: Sequence[Encoded]) -> list[tuple[int, Prepared]]:
    """The examples in passes of a bearable size, each with their number."""
    size = 4 * BATCH
    groups = (examples[i : i + size] for i in range(0, len(examples), size))
    return [(len(group), mixture.prepare(group)) for group in groups]


def _mean_loss(
    mixture: Mixture,
    weights: Tensor,
    groups: Sequence[tuple[int, Prepared]],
) -> float:
    total = 0.0
    for count, group in groups:
        with mixture.loss(weights, group) as loss:
            total += count * float(loss)
    return total / sum(count for count, _ in groups)


def _endless(memory: Sequence[Encoded], seed: str) -> Iterator[Encoded]:
    """The examples of a memory in a new order each time round."""
    draw = random.Random(seed)
    while True:
        yield from draw.sample(memory, len(memory))
