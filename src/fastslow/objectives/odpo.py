"""DPO with an offset: a pair with a large score gap needs a larger margin.

Source: arXiv 2402.10571; rycolab/odpo, `preference_loss`. Log-probs are summed over tokens.
"""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps, needed
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_not_negative, check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Odpo(Objective):
    """L = -logsigmoid(u - alpha log(max(gap, floor))), gap = score_w - score_l.

    The released code takes the logarithm of the raw gap: below a gap of 1 it relaxes DPO instead
    of strengthening it, a tie has no loss for any policy, and a pair in the wrong order gives NaN.
    `floor` guards against all three: the default, 1, never relaxes; a smaller one follows the code
    down to that gap.
    """

    beta: float = 0.1
    alpha: float = 1.0
    floor: float = 1.0

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_not_negative("alpha", self.alpha)
        check_positive("floor", self.floor)

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("score_gap",) if self.alpha else ()

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        u = self.beta * logps.delta
        if self.alpha:
            u = u - self.alpha * needed(logps, "score_gap").clamp(min=self.floor).log()
        return with_rewards(-logsigmoid(u), logps, self.beta)
