"""Identity preference optimisation.

Source: arXiv 2310.12036, Eq. 17 with tau = beta. The codes in use disagree on the reduction: the
paper and the original DPO code sum over tokens, TRL's DPOTrainer averages (confirmed by the
authors, its source says). Both are here and the recipe says which.
"""

from dataclasses import dataclass
from typing import ClassVar

from fastslow.errors import ConfigError
from fastslow.objectives.contract import (
    ObjectiveOutput,
    PairLogps,
    check_positive,
    widen,
    with_rewards,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ipo:
    """L = (Delta - 1 / (2 beta))^2; larger beta means a smaller target margin.

    `length_normalised=True` (default, as in TRL) divides each log-ratio by its response's number
    of tokens before the difference; False takes the sums.
    """

    beta: float = 0.1
    length_normalised: bool = True

    needs_reference: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        if not isinstance(self.length_normalised, bool):
            raise ConfigError(
                f"objective.length_normalised: got {self.length_normalised!r}; must be true or "
                "false"
            )

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        if self.length_normalised:
            chosen = logps.chosen_log_ratio / widen(logps.chosen_length)
            rejected = logps.rejected_log_ratio / widen(logps.rejected_length)
            delta = chosen - rejected
        else:
            delta = logps.policy_margin - logps.reference_margin
        return with_rewards((delta - 1 / (2 * self.beta)) ** 2, logps, self.beta)
