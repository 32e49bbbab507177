"""Hinge loss on the implicit reward margin.

Source: RSO arXiv 2309.06657, section 3.2 ("hinge-norm"), the normalised form of SLiC-HF.
"""

from dataclasses import dataclass

from torch.nn.functional import relu

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Hinge(Objective):
    """L = max(0, 1 - u); pairs with Delta above 1 / beta give no gradient at all."""

    beta: float = 0.1

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        u = self.beta * logps.delta
        return with_rewards(relu(1 - u), logps, self.beta)
