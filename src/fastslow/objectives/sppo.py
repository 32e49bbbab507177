"""Self-play preference optimisation: regression of log-ratios onto win rates.

Source: arXiv 2405.00675; uclaml/SPPO, `loss_type == "sppo"`. The code halves the two squares, the
paper (4.12) and TRL do not; this follows the code. Log-probs are summed over tokens.
"""

from dataclasses import dataclass

from torch import Tensor

from fastslow.objectives.containers import PairLogps, needed
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_one_of, check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Sppo(Objective):
    """L = 1/2 [(h_w - (P_w - 1/2) / beta)^2 + (h_l - (P_l - 1/2) / beta)^2].

    `targets: hard` takes P_w = 1 and P_l = 0; `probabilities` takes them from the pair, where
    P is the mean probability of winning against the prompt's other responses.
    """

    beta: float = 0.001
    targets: str = "hard"

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_one_of("targets", self.targets, ("hard", "probabilities"))

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return () if self.targets == "hard" else ("chosen_win_rate", "rejected_win_rate")

    @property
    def chase_scale(self) -> float:
        """The loss is that of beta h over beta^2: its slope is 1 / (2 beta) where DPO's is
        beta / 2."""
        return 1 / self.beta**2

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        chosen, rejected = self._targets(logps)
        loss = (logps.chosen_log_ratio - chosen) ** 2 + (logps.rejected_log_ratio - rejected) ** 2
        return with_rewards(0.5 * loss, logps, self.beta)

    def _targets(self, logps: PairLogps) -> tuple[Tensor | float, Tensor | float]:
        if self.targets == "hard":
            return 0.5 / self.beta, -0.5 / self.beta
        chosen, rejected = ((needed(logps, name) - 0.5) / self.beta for name in self.needs)
        return chosen, rejected
