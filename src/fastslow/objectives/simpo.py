"""Simple preference optimisation: length-averaged log-probs, a target margin, no reference.

Source: arXiv 2405.14734; princeton-nlp/SimPO, `simpo_loss`. Log-probs are means over tokens.
"""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput
from fastslow.objectives.settings import check_not_negative, check_positive, check_range


@dataclass(frozen=True, slots=True, kw_only=True)
class Simpo(Objective):
    """L = -logsigmoid(beta (s_w / n_w - s_l / n_l - gamma_beta_ratio)).

    Defaults are the official code's; the margin gamma of the paper is beta gamma_beta_ratio.
    Rewards are beta s / n.
    """

    beta: float = 2.0
    gamma_beta_ratio: float = 0.25
    label_smoothing: float = 0.0

    needs_reference = False
    needs_lengths = True
    per_token = True

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_not_negative("gamma_beta_ratio", self.gamma_beta_ratio)
        check_range("label_smoothing", self.label_smoothing, 0.0, 0.5)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        chosen, rejected = logps.chosen_mean, logps.rejected_mean
        u = self.beta * (chosen - rejected - self.gamma_beta_ratio)
        loss = -logsigmoid(u) + self.label_smoothing * u
        return ObjectiveOutput(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
