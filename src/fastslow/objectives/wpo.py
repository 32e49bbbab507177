"""Weighted preference optimisation: stored pairs weighted by their likelihood under the policy.

Source: arXiv 2406.11827; wzhouad/WPO, `run_wpo.py`, which clamps the product of weights at 1 (TRL
does not). The weights are means over tokens, the log-probs sums.
"""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps, needed
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Wpo(Objective):
    """L = min(1, w_w w_l) (-logsigmoid(u)), w = exp(s / n - c), no gradient through w.

    c is the mean over the response's tokens of log sum_v p(v)^2 under the policy: the value for a
    token sampled from it.
    """

    beta: float = 0.01

    needs_lengths = True
    needs = ("chosen_collision", "rejected_collision")

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        chosen = logps.chosen_mean.detach() - needed(logps, "chosen_collision")
        rejected = logps.rejected_mean.detach() - needed(logps, "rejected_collision")
        weight = (chosen + rejected).clamp(max=0.0).exp()
        return with_rewards(-weight * logsigmoid(self.beta * logps.delta), logps, self.beta)
