"""RLOO: raises answers that score above the others to their prompt; no critic.

Source: arXiv 2402.14740; clipped as in TRL's `RLOOTrainer`. For the policy's own answers, as with
`online`; on stored lists its gradient is not that of any expected reward.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastslow.objectives.containers import RankedLogps, needed, widen
from fastslow.objectives.contract import Objective, ObjectiveOutput
from fastslow.objectives.rankings import ranked_output
from fastslow.objectives.settings import check_not_negative, check_positive

LARGEST = 20.0
"""Log-ratio to the sampling policy at which a completion's weight stops growing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rloo(Objective):
    """L = -mean_i min(w_i A_i, clip(w_i, 1 - clip, 1 + clip) A_i), w = pi / pi_then.

    A_i = R_i minus the mean of the prompt's other R, R = score - beta (log pi_then - log pi_ref).
    pi_then sampled the answers: `extras["sampled"]`, or the policy itself without gradient. Where
    they are the same the value is 0 and the gradient -mean A log pi. Defaults are TRL's.
    """

    beta: float = 0.05
    clip: float = 0.2

    takes = "rankings"
    needs = ("score",)
    on_policy = True
    chase_beta = 1.0

    def __post_init__(self) -> None:
        check_not_negative("beta", self.beta)
        check_positive("clip", self.clip)

    def __call__(self, logps: RankedLogps) -> ObjectiveOutput:
        policy, present = widen(logps.policy), logps.present
        then = widen(logps.extras.get("sampled", logps.policy).detach())
        reward = needed(logps, "score") - self.beta * (then - widen(logps.reference.detach()))
        advantage = _above_the_others(torch.where(present, reward, 0.0), present)
        weight = (policy - then).clamp(-LARGEST, LARGEST).exp()
        clipped = weight.clamp(1 - self.clip, 1 + self.clip)
        gain = torch.minimum(weight * advantage, clipped * advantage)
        loss = -torch.where(present, gain, 0.0).sum(1) / present.sum(1)
        return ranked_output(loss, logps, self.beta)


def _above_the_others(values: Tensor, present: Tensor) -> Tensor:
    """Each value minus the mean of the other present ones in its row, [B, K]; 0 if not present."""
    count = present.sum(1, keepdim=True)
    total = values.sum(1, keepdim=True)
    others = (total - values) / (count - 1).clamp(min=1)
    return torch.where(present & (count > 1), values - others, 0.0)
