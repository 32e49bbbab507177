"""Which module answers: the one before, unless another predicts held-out votes better.

The race by test-then-train loss sees each vote once and forgets. Where the modules predict votes
about as well it hands the lead to and fro, also to one that has learned little: losses differ by a
hundredth of a nat where true rewards differ by half (LOG.md). So it takes a test to change.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastslow.api.learner import Learner
from fastslow.live.gate.statistics import above_zero_by_chance

P = 0.05
"""Chance by which another looks so much better and is not."""
Row = Mapping[str, Any]


def decided(rows: Sequence[Row]) -> list[Row]:
    """Those on which somebody preferred one of two answers."""
    return [row for row in rows if "chosen" in row and "verdict" not in row]


def margins(learner: Learner, module: str, rows: Sequence[Row]) -> list[float]:
    """How far a module is on the side of each vote, as compared with the base, nats."""
    if not rows:
        return []
    return [one.margin or 0.0 for one in learner.score([*rows], module=module)]


def vote_loss(margin: float, beta: float) -> float:
    """-log sigmoid(beta * margin), nats."""
    u = beta * margin
    return max(0.0, -u) + math.log1p(math.exp(-abs(u)))


def chosen_module(
    learner: Learner, held_out: Sequence[Row], *, before: str | None, fewest: int
) -> str:
    """The module that answered before, unless another's losses on held-out votes are lower, by
    chance with less than P.

    Args:
        before: None where none did: then the race's leader.
        fewest: held-out votes below which nothing is changed.
    """
    own = learner.leader if before is None else before
    rows = decided(held_out)
    if len(rows) < fewest or len(learner.modules) == 1:
        return own
    beta = learner.core.objective.beta
    losses = {
        name: [vote_loss(one, beta) for one in margins(learner, name, rows)]
        for name in learner.modules
    }
    best = min(learner.modules, key=lambda name: sum(losses[name]))
    gained = [a - b for a, b in zip(losses[own], losses[best], strict=True)]
    return best if above_zero_by_chance(gained) < P else own
