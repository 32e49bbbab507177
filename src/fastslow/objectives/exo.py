"""Efficient exact optimisation: the reverse KL from the policy's preferences to people's.

Source: arXiv 2402.00856; haozheji/exact-optimization, `exact_loss`, and TRL's `exo_pair`. The
official code scores responses at the temperature they were sampled at and labels pairs with the
log-weights 0 and -10 (e = 4.5e-5); here log-probs are ordinary sums over tokens and e is a setting,
as in TRL.
"""

import math
from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_positive, check_range


@dataclass(frozen=True, slots=True, kw_only=True)
class Exo(Objective):
    """L = p [log p - log(1 - e)] + (1 - p) [log(1 - p) - log e], p = sigmoid(u).

    Minimal at the finite u = log((1 - e) / e); badly wrong pairs get almost no gradient.
    """

    beta: float = 0.1
    label_smoothing: float = 1e-3

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_range("label_smoothing", self.label_smoothing, 1e-12, 0.5)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        u, e = self.beta * logps.delta, self.label_smoothing
        won, lost = logsigmoid(u), logsigmoid(-u)
        loss = won.exp() * (won - math.log1p(-e)) + lost.exp() * (lost - math.log(e))
        return with_rewards(loss, logps, self.beta)
