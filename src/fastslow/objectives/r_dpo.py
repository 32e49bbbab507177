"""Length-regularised DPO.

Source: arXiv 2403.19159. Sources disagree on the sign of the length term. Maximising the reward
minus alpha times the length gives plus, used here: a longer winner has already earned part of its
margin and is pushed less. Some implementations subtract, as a negative alpha does.
Log-probs are summed over tokens.
"""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_number, check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class RDpo(Objective):
    """L = -logsigmoid(u + alpha (n_w - n_l)). alpha = 0 is DPO; the default is a choice."""

    beta: float = 0.1
    alpha: float = 0.01

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_number("alpha", self.alpha)

    @property
    def needs_lengths(self) -> bool:  # type: ignore[override]
        return self.alpha != 0

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        delta = logps.delta
        longer = (logps.chosen_length - logps.rejected_length).to(delta.dtype)
        loss = -logsigmoid(self.beta * delta + self.alpha * longer)
        return with_rewards(loss, logps, self.beta)
