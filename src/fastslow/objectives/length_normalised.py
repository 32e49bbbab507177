"""DPO on log-ratios per token.

Source: Tulu 3, arXiv 2411.15124; TRL's `sigmoid_norm`. Log-probs are means over tokens.
Unlike SimPO it keeps the reference and has no target margin.
"""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps, widen
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthNormalisedDpo(Objective):
    """L = -logsigmoid(beta (h_w / n_w - h_l / n_l)). The default is Tulu 3's."""

    beta: float = 5.0

    needs_lengths = True
    per_token = True

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        chosen = logps.chosen_log_ratio / widen(logps.chosen_length)
        rejected = logps.rejected_log_ratio / widen(logps.rejected_length)
        return with_rewards(-logsigmoid(self.beta * (chosen - rejected)), logps, self.beta)
