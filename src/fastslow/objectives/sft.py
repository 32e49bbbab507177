"""Supervised fine-tuning: the likelihood of demonstrated or chosen responses."""

from dataclasses import dataclass

import torch

from fastslow.objectives.containers import DemonstrationLogps, PairLogps, RankedLogps, widen
from fastslow.objectives.contract import Objective, ObjectiveOutput
from fastslow.objectives.settings import check_one_of, check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Sft(Objective):
    """L = -s_w / n_w, or -s_w with `reduction: sum`. Other responses are ignored.

    Takes demonstrations, and as a term of a sum also pairs and rankings.

    The mean is over each response's own tokens, so that long ones count no more than short ones.
    beta only scales rewards and the chase.
    """

    beta: float = 0.1
    reduction: str = "mean"

    takes = "demonstrations"
    needs_reference = False

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_one_of("reduction", self.reduction, ("mean", "sum"))

    @property
    def needs_lengths(self) -> bool:  # type: ignore[override]
        return self.reduction == "mean"

    @property
    def per_token(self) -> bool:  # type: ignore[override]
        return self.reduction == "mean"

    @property
    def chase_scale(self) -> float:
        """The loss has a slope of 1 where DPO's is beta / 2."""
        return 2 / self.beta

    def __call__(self, logps: DemonstrationLogps | PairLogps | RankedLogps) -> ObjectiveOutput:
        chosen = widen(logps.policy_chosen)
        return ObjectiveOutput(
            loss=-logps.chosen_mean if self.reduction == "mean" else -chosen,
            chosen_reward=self.beta * chosen.detach(),
            rejected_reward=torch.zeros_like(chosen),
        )
