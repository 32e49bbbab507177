"""Chooses the module that answers: the same, unless a test finds another predicts new votes better.

New votes are scored before they are learned. The race sees them too, but a lead alone switches back
and forth between modules that predict about equally well, also to one that has learned little:
losses differ by a hundredth of a nat where true rewards differ by half. Held-out votes are few, and
after a change of taste most are of the old one, which a slower module keeps (LOG.md).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastslow.api.learner import Learner
from fastslow.live.gate.statistics import above_zero_by_chance

P = 0.001
"""Probability below which another module does not look better by chance."""
NEWEST = 512
"""Newest votes that are compared. Just after a change of taste the slower module always has the
lower loss, as it has learned less, but it is worse at learning the new taste: the votes of three
updates are too few."""
FEWEST = 48
"""Fewest votes for a change of module."""
Row = Mapping[str, Any]
Losses = Mapping[str, Sequence[float]]
"""Per module, losses on the same votes, which no module had learned, newest last; nats."""


def decided(rows: Sequence[Row]) -> list[Row]:
    """Rows in which somebody preferred one of two answers."""
    return [row for row in rows if "chosen" in row and "verdict" not in row]


def margins(learner: Learner, module: str, rows: Sequence[Row]) -> list[float]:
    """A module's margin over the base for the preferred answer of each vote, nats."""
    if not rows:
        return []
    return [score.margin or 0.0 for score in learner.score([*rows], module=module)]


def vote_loss(margin: float, beta: float) -> float:
    """-log sigmoid(beta * margin), nats."""
    u = beta * margin
    return max(0.0, -u) + math.log1p(math.exp(-abs(u)))


def tested(learner: Learner, rows: Sequence[Row]) -> dict[str, list[float]]:
    """The losses of a learner's modules on votes it is about to learn, nats."""
    cases, beta = decided(rows), learner.core.objective.beta
    return {
        name: [vote_loss(margin, beta) for margin in margins(learner, name, cases)]
        for name in learner.modules
    }


def chosen_module(losses: Losses, before: str) -> str:
    """The module that answered before, unless another has lower losses (paired t-test, p below
    P)."""
    current = losses.get(before, ())
    if len(current) < FEWEST:
        return before
    chances = {
        other: above_zero_by_chance([a - b for a, b in zip(current, theirs, strict=True)])
        for other, theirs in losses.items()
        if other != before
    }
    best = min(chances, key=chances.__getitem__, default=before)
    return best if chances.get(best, 1.0) < P else before
