"""Which module answers: the one before, unless the race's leader predicts held-out votes better.

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
    """The module that answered before, unless the one that leads the race has lower losses on
    held-out votes too, by chance with less than P.

    Both, as either alone misleads: the race forgets, and of a taste that has changed most held-out
    votes are of the one before, which a slower module has kept (LOG.md).

    Args:
        before: None where none did: then the race's leader.
        fewest: held-out votes below which nothing is changed.
    """
    own, leader = learner.leader if before is None else before, learner.leader
    rows = decided(held_out)
    if leader == own or len(rows) < fewest:
        return own
    beta = learner.core.objective.beta
    losses = [[vote_loss(one, beta) for one in margins(learner, m, rows)] for m in (own, leader)]
    gained = [a - b for a, b in zip(*losses, strict=True)]
    return leader if above_zero_by_chance(gained) < P else own
