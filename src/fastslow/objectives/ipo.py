"""Identity preference optimisation.

Source: arXiv 2310.12036, Eq. 17 with tau = beta. Implementations disagree on the reduction: the
paper and the original DPO code sum over tokens, TRL's DPOTrainer averages (confirmed by the
authors, according to its source). Both are available; the recipe chooses.
"""

from dataclasses import dataclass

from fastslow.objectives.containers import PairLogps, widen
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_one_of, check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Ipo(Objective):
    """L = (Delta - 1 / (2 beta))^2; larger beta means a smaller target margin.

    `length_normalised=True` (default, as in TRL) divides each log-ratio by its response's number
    of tokens before the difference; False uses the sums.
    """

    beta: float = 0.1
    length_normalised: bool = True

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_one_of("length_normalised", self.length_normalised, (True, False))

    @property
    def needs_lengths(self) -> bool:  # type: ignore[override]
        return self.length_normalised

    @property
    def per_token(self) -> bool:  # type: ignore[override]
        return self.length_normalised

    @property
    def chase_scale(self) -> float:
        """The loss is (beta Delta - 1/2)^2 over beta^2: its slope is 1 / beta where DPO's is
        beta / 2."""
        return 2 / self.beta**2

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        if self.length_normalised:
            chosen = logps.chosen_log_ratio / widen(logps.chosen_length)
            rejected = logps.rejected_log_ratio / widen(logps.rejected_length)
            delta = chosen - rejected
        else:
            delta = logps.delta
        return with_rewards((delta - 1 / (2 * self.beta)) ** 2, logps, self.beta)
