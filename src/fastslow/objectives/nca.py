"""Noise-contrastive alignment for two responses.

Source: arXiv 2402.05369; TRL's `nca_pair`. Log-probs are summed over tokens.
"""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Nca(Objective):
    """L = -logsigmoid(beta h_w) - 1/2 logsigmoid(-beta h_w) - 1/2 logsigmoid(-beta h_l).

    Each response is pulled to an absolute likelihood, so that the chosen one cannot sink unnoticed.
    """

    beta: float = 0.01

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        chosen = self.beta * logps.chosen_log_ratio
        rejected = self.beta * logps.rejected_log_ratio
        loss = -logsigmoid(chosen) - 0.5 * (logsigmoid(-chosen) + logsigmoid(-rejected))
        return with_rewards(loss, logps, self.beta)
