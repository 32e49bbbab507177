"""Direct preference optimisation and its treatments of label noise.

Source: DPO arXiv 2305.18290, Eq. 7; conservative DPO is its label-smoothed form (E. Mitchell's
note); robust DPO arXiv 2403.00409. Log-probs are summed over tokens.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import logsigmoid

from fastslow.objectives.contract import (
    ObjectiveOutput,
    PairLogps,
    check_positive,
    check_range,
    widen,
    with_rewards,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dpo:
    """L = -(1 - e) logsigmoid(u) - e logsigmoid(-u), with e the label smoothing.

    With e = 0 this is DPO; with e > 0 conservative DPO, whose optimum is the finite margin
    u = log((1 - e) / e).
    """

    beta: float = 0.1
    label_smoothing: float = 0.0

    needs_reference: ClassVar[bool] = True
    length_normalised: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_range("label_smoothing", self.label_smoothing, 0.0, 0.5)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        u = self.beta * (logps.policy_margin - logps.reference_margin)
        loss = -logsigmoid(u)
        if self.label_smoothing:
            # -logsigmoid(-u) = u - logsigmoid(u), so smoothing only adds e * u.
            loss = loss + self.label_smoothing * u
        return with_rewards(loss, logps, self.beta)


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustDpo:
    """L = [-(1 - e) logsigmoid(u) + e logsigmoid(-u)] / (1 - 2e), unbiased under flips of rate e.

    The loss is not bounded below and its gradient never vanishes: for u -> inf its slope tends to
    -e / (1 - 2e). Stop early or keep e small.
    """

    beta: float = 0.1
    label_smoothing: float = 0.1

    needs_reference: ClassVar[bool] = True
    length_normalised: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_range("label_smoothing", self.label_smoothing, 0.0, 0.5)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        u = self.beta * (logps.policy_margin - logps.reference_margin)
        loss = -logsigmoid(u)
        if self.label_smoothing:
            e = self.label_smoothing
            loss = loss - u * (e / (1 - 2 * e))
        return with_rewards(loss, logps, self.beta)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFree:
    """L = -logsigmoid(beta (s_w - s_l)): DPO with a uniform reference. Rewards are beta * s."""

    beta: float = 0.1

    needs_reference: ClassVar[bool] = False
    length_normalised: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        return ObjectiveOutput(
            loss=-logsigmoid(self.beta * logps.policy_margin),
            chosen_reward=self.beta * widen(logps.policy_chosen.detach()),
            rejected_reward=self.beta * widen(logps.policy_rejected.detach()),
        )
