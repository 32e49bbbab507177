"""Hinge loss on the implicit reward margin.

Source: RSO arXiv 2309.06657, section 3.2 ("hinge-norm"), the normalised form of SLiC-HF.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import relu

from fastslow.objectives.contract import ObjectiveOutput, PairLogps, check_positive, with_rewards


@dataclass(frozen=True, slots=True, kw_only=True)
class Hinge:
    """L = max(0, 1 - u); pairs with Delta above 1 / beta give no gradient at all."""

    beta: float = 0.1

    needs_reference: ClassVar[bool] = True
    length_normalised: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        u = self.beta * (logps.policy_margin - logps.reference_margin)
        return with_rewards(relu(1 - u), logps, self.beta)
