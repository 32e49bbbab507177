"""DPO that stops pushing a rejected response below its reference.

Source: arXiv 2408.09834, as restated by others; no official code is known. Log-probs are summed
over tokens.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class MinorDpo(Objective):
    """L = -logsigmoid(beta (h_w - max(0, h_l))).

    At h_l = 0, where every run begins, the rejected response is pushed (the maximum's slope there
    is taken as 1), so the first step is DPO's.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        below = logps.rejected_log_ratio < 0
        u = self.beta * torch.where(below, logps.chosen_log_ratio, logps.delta)
        return with_rewards(-logsigmoid(u), logps, self.beta)
