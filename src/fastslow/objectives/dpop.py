"""DPO-Positive: a chosen response that sinks below its reference costs extra.

Source: arXiv 2402.13228 (Smaug), as restated by others. Log-probs are summed over tokens.
"""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid, relu

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_not_negative, check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Dpop(Objective):
    """L = -logsigmoid(beta (Delta - penalty max(0, -h_w))). penalty = 0 is DPO.

    The default is the value that others' recipes quote for the paper.
    """

    beta: float = 0.3
    penalty: float = 50.0

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_not_negative("penalty", self.penalty)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        sunk = relu(-logps.chosen_log_ratio)
        u = self.beta * (logps.delta - self.penalty * sunk)
        return with_rewards(-logsigmoid(u), logps, self.beta)
