"""Anchored preference optimisation: the direction of both likelihoods is specified.

Source: arXiv 2408.06266; TRL's `apo_zero` and `apo_down`. Log-probs are summed over tokens.
"""

from dataclasses import dataclass

from torch import sigmoid

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchoredZero(Objective):
    """L = 1 - sigmoid(beta h_w) + sigmoid(beta h_l): chosen up, rejected down."""

    beta: float = 0.1

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        chosen = sigmoid(-self.beta * logps.chosen_log_ratio)
        rejected = sigmoid(self.beta * logps.rejected_log_ratio)
        return with_rewards(chosen + rejected, logps, self.beta)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchoredDown(Objective):
    """L = sigmoid(beta h_w) + 1 - sigmoid(u): both down, the rejected one further.

    For pairs whose chosen response is also worse than the policy's own.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        chosen = sigmoid(self.beta * logps.chosen_log_ratio)
        return with_rewards(chosen + sigmoid(-self.beta * logps.delta), logps, self.beta)
