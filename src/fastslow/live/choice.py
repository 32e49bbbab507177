"""Which of a learner's modules answers: the one that predicts held-out votes best.

The race by test-then-train loss sees each vote once and forgets; where the modules are about as
good it may hand the lead to one that has learned little (LOG.md). Held-out votes are the same for
all of them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastslow.api.learner import Learner

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


def best_module(learner: Learner, held_out: Sequence[Row], *, fewest: int) -> str:
    """The module with the lowest mean loss on held-out votes; the race's leader where they are
    fewer than `fewest`."""
    rows = decided(held_out)
    if len(rows) < fewest or len(learner.modules) == 1:
        return learner.leader
    beta = learner.core.objective.beta

    def loss(module: str) -> float:
        return sum(vote_loss(one, beta) for one in margins(learner, module, rows))

    return min(learner.modules, key=loss)
