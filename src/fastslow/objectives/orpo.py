"""Odds-ratio preference optimisation: likelihood and odds, no reference.

Source: arXiv 2403.07691, Eq. 6-7. Log-probs are means over tokens. Deviation from TRL, whose
likelihood term also covers the prompt: only the response is learned here, as in the paper.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput
from fastslow.objectives.settings import check_positive

NEVER_SURE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Orpo(Objective):
    """L = -s_w / n_w - beta logsigmoid(odds_w - odds_l), odds = p - log(1 - exp(p)), p = s / n.

    beta is the paper's lambda. A response of probability 1 has p just below 0, by `NEVER_SURE`.
    Rewards are beta p.
    """

    beta: float = 0.1

    needs_reference = False
    needs_lengths = True
    per_token = True
    chase_beta = 1.0

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    @property
    def chase_scale(self) -> float:
        """beta weights the odds, whose own temperature is 1."""
        return self.beta

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        chosen, rejected = logps.chosen_mean, logps.rejected_mean
        odds = _log_odds(chosen) - _log_odds(rejected)
        loss = -chosen - self.beta * logsigmoid(odds)
        return ObjectiveOutput(loss, self.beta * chosen.detach(), self.beta * rejected.detach())


def _log_odds(logp: Tensor) -> Tensor:
    logp = logp.clamp(max=-NEVER_SURE)
    return logp - torch.log(-torch.expm1(logp))
