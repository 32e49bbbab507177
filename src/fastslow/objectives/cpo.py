"""Contrastive preference optimisation: DPO without a reference, with a likelihood anchor.

Source: arXiv 2401.08417; TRL's CPOTrainer. The preference part sums over tokens, the anchor takes
the mean over the chosen response's tokens.
"""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_policy_rewards
from fastslow.objectives.settings import check_not_negative, check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpo(Objective):
    """L = -logsigmoid(beta (s_w - s_l)) - nll s_w / n_w. Rewards are beta s."""

    beta: float = 0.1
    nll: float = 1.0

    needs_reference = False

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_not_negative("nll", self.nll)

    @property
    def needs_lengths(self) -> bool:  # type: ignore[override]
        return self.nll > 0

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        loss = -logsigmoid(self.beta * logps.policy_margin) - self.nll * logps.chosen_mean
        return with_policy_rewards(loss, logps, self.beta)
