"""Direct preference optimisation and its variants for label noise.

Source: DPO arXiv 2305.18290, Eq. 7; conservative DPO is its label-smoothed form (E. Mitchell's
note); robust DPO arXiv 2403.00409. Log-probs are summed over tokens.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import (
    Objective,
    ObjectiveOutput,
    with_policy_rewards,
    with_rewards,
)
from fastslow.objectives.divergence import DIVERGENCES, link
from fastslow.objectives.settings import check_one_of, check_positive, check_range


@dataclass(frozen=True, slots=True, kw_only=True)
class Dpo(Objective):
    """L = -(1 - e) logsigmoid(u) - e logsigmoid(-u), with e the label smoothing.

    With e = 0 this is DPO; with e > 0 conservative DPO, whose optimum is the finite margin
    u = log((1 - e) / e). `divergence` replaces the reverse KL (f-DPO); `divergence_alpha` belongs
    to `alpha`.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    divergence: str = "reverse_kl"
    divergence_alpha: float = 0.5

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_range("label_smoothing", self.label_smoothing, 0.0, 0.5)
        check_one_of("divergence", self.divergence, DIVERGENCES)
        check_positive("divergence_alpha", self.divergence_alpha)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        u = self.beta * self._delta(logps)
        loss = -logsigmoid(u)
        if self.label_smoothing:
            # -logsigmoid(-u) = u - logsigmoid(u), so smoothing only adds e * u.
            loss = loss + self.label_smoothing * u
        return with_rewards(loss, logps, self.beta)

    def _delta(self, logps: PairLogps) -> Tensor:
        if self.divergence == "reverse_kl":
            return logps.delta
        chosen, rejected = (
            link(log_ratio, self.divergence, self.divergence_alpha)
            for log_ratio in (logps.chosen_log_ratio, logps.rejected_log_ratio)
        )
        return chosen - rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustDpo(Objective):
    """L = [-(1 - e) logsigmoid(u) + e logsigmoid(-u)] / (1 - 2e), unbiased under flips of rate e.

    The loss is not bounded below and its gradient never vanishes: for u -> inf its slope tends to
    -e / (1 - 2e). Stop early or keep e small.
    """

    beta: float = 0.1
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_range("label_smoothing", self.label_smoothing, 0.0, 0.5)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        u = self.beta * logps.delta
        loss = -logsigmoid(u)
        if self.label_smoothing:
            e = self.label_smoothing
            loss = loss - u * (e / (1 - 2 * e))
        return with_rewards(loss, logps, self.beta)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFree(Objective):
    """L = -logsigmoid(beta (s_w - s_l)): DPO with a uniform reference. Rewards are beta * s."""

    beta: float = 0.1

    needs_reference = False

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        loss = -logsigmoid(self.beta * logps.policy_margin)
        return with_policy_rewards(loss, logps, self.beta)
