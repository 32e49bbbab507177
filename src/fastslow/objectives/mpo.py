"""Maximum preference optimisation, its preference term.

Source: arXiv 2312.16430. (Not mixed preference optimisation, 2411.10442.) The abstract gives the
idea, the expected 0/1 reward of the preference itself without a reference; the formula here is a
reconstruction. The paper's other two terms are likelihoods of additional data: add `sft`.
Log-probs are summed over tokens.
"""

from dataclasses import dataclass

import torch

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_policy_rewards
from fastslow.objectives.settings import check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Mpo(Objective):
    """L = -sigmoid(beta (s_w - s_l)): bounded, so badly wrong pairs have little gradient."""

    beta: float = 0.1

    needs_reference = False

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        loss = -torch.sigmoid(self.beta * logps.policy_margin)
        return with_policy_rewards(loss, logps, self.beta)
