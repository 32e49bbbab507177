"""alpha-DPO: SimPO with a separate target margin for each pair.

Source: arXiv 2410.10148; junkangwu/alpha-DPO, `AlphaDPOTrainer` (`ln: true`). (Not AlphaPO,
2501.03884.) Log-probs are means over tokens. alpha is inside beta, as in the code; the paper's
is beta times that.

Deviations: the running mean and deviation are corrected for starting at 0, advance once per
optimiser step over the whole batch and never in evaluation, and are those of the previous steps, so
that a pair's loss does not depend on its batch. The first step has none and is SimPO's; so are all
steps if each has one pair, which has no deviation. z is clamped to +-5, because the deviation is
almost zero while the policy is still close to its reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fastslow.objectives import running
from fastslow.objectives.containers import PairLogps, widen
from fastslow.objectives.contract import Objective, ObjectiveOutput
from fastslow.objectives.settings import (
    check_not_negative,
    check_number,
    check_positive,
    check_range,
)

FAR = 5.0
"""Limit on a gap's distance from the mean, in deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaDpo(Objective):
    """L = -logsigmoid(beta (m - gamma_beta_ratio - alpha z)), m = s_w / n_w - s_l / n_l.

    z = (gap - mean) / deviation of gap, m less the reference's m, without gradient. alpha = 0 is
    SimPO. Rewards are beta s / n. Defaults: the code's for Llama-3-8B-Instruct.
    """

    beta: float = 2.5
    gamma_beta_ratio: float = 0.6
    alpha: float = 0.2
    decay: float = 0.9

    needs_lengths = True
    per_token = True

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_not_negative("gamma_beta_ratio", self.gamma_beta_ratio)
        check_number("alpha", self.alpha)
        check_range("decay", self.decay, 0.0, 1.0)

    @property
    def needs_reference(self) -> bool:  # type: ignore[override]
        return self.alpha != 0

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        chosen, rejected = logps.chosen_mean, logps.rejected_mean
        margin = self.gamma_beta_ratio + self.alpha * self._standardised(logps)
        loss = -logsigmoid(self.beta * (chosen - rejected - margin))
        return ObjectiveOutput(loss, self.beta * chosen.detach(), self.beta * rejected.detach())

    def _standardised(self, logps: PairLogps) -> Tensor:
        gap, before = _gap(logps), running.moments(logps.state)
        # Without a deviation, as after a first step with policy equal to reference or after steps
        # of one pair, no gap counts as large.
        if before is None or before.deviation == 0:
            return torch.zeros_like(gap)
        return ((gap - before.mean) / before.deviation).clamp(-FAR, FAR)

    def initial_state(self) -> dict[str, float]:
        return running.fresh()

    def observe(self, logps: PairLogps) -> dict[str, Tensor]:
        return running.sums(_gap(logps))

    def advance(
        self, state: Mapping[str, float], sums: Mapping[str, float], count: int
    ) -> dict[str, float]:
        return running.advanced(state, sums, count, decay=self.decay)


def _gap(logps: PairLogps) -> Tensor:
    chosen = logps.chosen_log_ratio / widen(logps.chosen_length)
    return (chosen - logps.rejected_log_ratio / widen(logps.rejected_length)).detach()
