"""Which module answers: the one before, unless another predicts new votes better, by a test.

New votes are tested on before they are learned. The race sees them too, and by a lead alone hands
over to and fro between modules that predict about as well, also to one that has learned little:
losses differ by a hundredth of a nat where true rewards differ by half. Held-out votes are few, and
of a taste that has changed most are of the one before, which a slower module keeps (LOG.md).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastslow.api.learner import Learner
from fastslow.live.gate.statistics import above_zero_by_chance

P = 0.001
"""Chance by which another looks so much better and is not."""
NEWEST = 512
"""Votes that are compared. Just after a change of taste the slower module always loses less, as it
has learned less, and is the worse one to learn the new taste: it takes more than three updates."""
FEWEST = 48
"""Votes below which nothing is changed."""
Row = Mapping[str, Any]
Losses = Mapping[str, Sequence[float]]
"""Of every module on the same votes, which none of them had learned, the newest last; nats."""


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


def tested(learner: Learner, rows: Sequence[Row]) -> dict[str, list[float]]:
    """The losses of a learner's modules on votes that it is going to learn, nats."""
    cases, beta = decided(rows), learner.core.objective.beta
    return {
        name: [vote_loss(one, beta) for one in margins(learner, name, cases)]
        for name in learner.modules
    }


def chosen_module(losses: Losses, before: str) -> str:
    """The module that answered before, unless another has lower losses by chance with less than P:
    a paired t-test."""
    own = losses.get(before, ())
    if len(own) < FEWEST:
        return before
    chances = {
        other: above_zero_by_chance([a - b for a, b in zip(own, theirs, strict=True)])
        for other, theirs in losses.items()
        if other != before
    }
    best = min(chances, key=chances.__getitem__, default=before)
    return best if chances.get(best, 1.0) < P else before
