"""Bradley-Terry with ties: "equally good" is a training label, not a pair to drop.

Sources: P. V. Rao and L. L. Kupper, JASA 62 (1967) 194; R. R. Davidson, JASA 65 (1970) 317; for
DPO, arXiv 2409.17431. u = beta Delta takes the place of the difference of strengths. Log-probs are
summed over tokens. `extras["tie"]` is 1 for ties; without it no pair is a tie.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps, widen
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_not_negative, check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class RaoKupper(Objective):
    """Win: -logsigmoid(u - t). Tie: -log(exp(2 t) - 1) - logsigmoid(u - t) - logsigmoid(-u - t).

    t is the threshold: responses whose strengths differ by less are hard to tell apart. t = 0 is
    DPO, and ties are then not learned. The default makes an even pair a tie half the time.
    """

    beta: float = 0.1
    threshold: float = math.log(3.0)

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_not_negative("threshold", self.threshold)

    @property
    def learns_ties(self) -> bool:  # type: ignore[override]
        return self.threshold > 0

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        u = self.beta * logps.delta
        win = -logsigmoid(u - self.threshold)
        if not self.learns_ties:
            return with_rewards(win, logps, self.beta)
        # log(exp(2 t) - 1), stable for large t.
        often = 2 * self.threshold + math.log(-math.expm1(-2 * self.threshold))
        tie = win - logsigmoid(-u - self.threshold) - often
        return with_rewards(torch.where(_tied(logps), tie, win), logps, self.beta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Davidson(Objective):
    """Win: log(e^(u/2) + e^(-u/2) + v) - u / 2. Tie: the same logarithm minus log v.

    v = 0 is DPO, and ties are then not learned. The default, 1, makes an even pair a tie one time
    in three.
    """

    beta: float = 0.1
    prevalence: float = 1.0

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_not_negative("prevalence", self.prevalence)

    @property
    def learns_ties(self) -> bool:  # type: ignore[override]
        return self.prevalence > 0

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        u = self.beta * logps.delta
        if not self.learns_ties:
            return with_rewards(-logsigmoid(u), logps, self.beta)
        log_v = math.log(self.prevalence)
        # The win as log(1 + e^-u + v e^(-u/2)), which stays exact where it is nearly 0.
        win = -logsigmoid(-torch.logaddexp(-u, log_v - u / 2))
        tie = win + u / 2 - log_v
        return with_rewards(torch.where(_tied(logps), tie, win), logps, self.beta)


def _tied(logps: PairLogps) -> Tensor:
    tie = logps.extras.get("tie")
    return widen(torch.zeros_like(logps.policy_chosen) if tie is None else tie) > 0
