"""Objectives on binary feedback for single responses. Log-probs are summed over tokens."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import RatedLogps, needed
from fastslow.objectives.contract import Objective, ObjectiveOutput
from fastslow.objectives.settings import check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Kto(Objective):
    """Liked: w (1 - sigmoid(beta (h - z))). Not liked: w (1 - sigmoid(beta (z - h))).

    Source: arXiv 2402.01306, Eq. 8; TRL's KTOTrainer. z = max(0, mean over the batch of the
    log-ratios of mismatched responses), without gradient: an estimate of the reverse KL. Every
    response gets the same mean.
    """

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    takes = "ratings"
    needs = ("mismatched_log_ratio",)

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_positive("desirable_weight", self.desirable_weight)
        check_positive("undesirable_weight", self.undesirable_weight)

    def __call__(self, logps: RatedLogps) -> ObjectiveOutput:
        baseline = needed(logps, "mismatched_log_ratio").clamp(min=0.0)
        advantage = self.beta * (logps.log_ratio - baseline)
        liked = self.desirable_weight * torch.sigmoid(-advantage)
        disliked = self.undesirable_weight * torch.sigmoid(advantage)
        return rated_output(torch.where(logps.desirable, liked, disliked), logps, self.beta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bco(Objective):
    """Liked: -logsigmoid(beta h - d). Not liked: -logsigmoid(d - beta h).

    Source: arXiv 2404.04656. d is the mean of beta h over all responses of previous steps (0 in
    the first), without gradient; the paper's is the mean up to and including the batch. Its
    density-ratio weights for unlike prompts are not implemented. (TRL's `bco_pair` has no d.)
    """

    beta: float = 0.1

    takes = "ratings"

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: RatedLogps) -> ObjectiveOutput:
        count = logps.state.get("count", 0.0)
        shift = self.beta * logps.state["total"] / count if count else 0.0
        u = self.beta * logps.log_ratio - shift
        loss = -logsigmoid(torch.where(logps.desirable, u, -u))
        return rated_output(loss, logps, self.beta)

    def initial_state(self) -> dict[str, float]:
        return {"total": 0.0, "count": 0.0}

    def observe(self, logps: RatedLogps) -> dict[str, Tensor]:
        return {"total": logps.log_ratio.detach().cpu().double().sum()}

    def advance(
        self, state: Mapping[str, float], sums: Mapping[str, float], count: int
    ) -> dict[str, float]:
        return {
            "total": state.get("total", 0.0) + sums["total"],
            "count": state.get("count", 0.0) + count,
        }


def rated_output(loss: Tensor, logps: RatedLogps, beta: float) -> ObjectiveOutput:
    """The loss with beta h as the reward of the side each response is on, 0 on the other."""
    reward = beta * logps.log_ratio.detach()
    zero = torch.zeros_like(reward)
    return ObjectiveOutput(
        loss,
        torch.where(logps.desirable, reward, zero),
        torch.where(logps.desirable, zero, reward),
    )
