"""Chi-squared preference optimisation: a stronger pull to the reference than KL's.

Source: arXiv 2407.13399, as restated by others. Log-probs are summed over tokens.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_not_negative, check_positive

CAP = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChiPo(Objective):
    """L = -logsigmoid(clip(beta (phi(h_w) - phi(h_l)), +-2 max_reward)), phi(h) = chi exp(h) + h.

    `chi` is 1 in the paper; 0 is DPO, clipped. `max_reward` bounds the true reward; pairs
    beyond the clip have no gradient. null does not clip. Exponents are capped at 20.
    """

    beta: float = 0.1
    chi: float = 1.0
    max_reward: float | None = 2.0

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_not_negative("chi", self.chi)
        if self.max_reward is not None:
            check_positive("max_reward", self.max_reward)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        chosen, rejected = (
            torch.exp(h.clamp(max=CAP)) for h in (logps.chosen_log_ratio, logps.rejected_log_ratio)
        )
        u = self.beta * (logps.delta + self.chi * (chosen - rejected))
        if self.max_reward is not None:
            u = u.clamp(-2 * self.max_reward, 2 * self.max_reward)
        return with_rewards(-logsigmoid(u), logps, self.beta)
