"""Agreement-aware iterative preference optimisation.

Source: arXiv 2409.08845; bytedance/AIPO, `loss_type == "aipo"`. The preference part sums over
tokens, the anchor takes the mean over the chosen response's tokens.
"""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_not_negative, check_number, check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Aipo(Objective):
    """L = -logsigmoid(beta (Delta - alpha m_ref)) - nll s_w / n_w.

    Where the reference agrees with the label, the target margin grows; where it disagrees, it
    shrinks. alpha = nll = 0 is DPO. The paper's values could not be read and the code has no
    defaults for either; these are choices.
    """

    beta: float = 0.1
    alpha: float = 0.1
    nll: float = 0.1

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_number("alpha", self.alpha)
        check_not_negative("nll", self.nll)

    @property
    def needs_lengths(self) -> bool:  # type: ignore[override]
        return self.nll > 0

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        u = self.beta * (logps.delta - self.alpha * logps.reference_margin)
        loss = -logsigmoid(u) - self.nll * logps.chosen_mean
        return with_rewards(loss, logps, self.beta)
