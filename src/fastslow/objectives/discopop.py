"""Log-ratio modulated loss, discovered by a language model.

Source: DiscoPOP, arXiv 2406.08414; TRL's `discopop`. Log-probs are summed over tokens.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_positive, check_range


@dataclass(frozen=True, slots=True, kw_only=True)
class Discopop(Objective):
    """L = (1 - g) (-logsigmoid(u)) + g exp(-u), g = sigmoid(u / tau). Not convex.

    Deviation: tau is 0.2. At u = 0, where every run begins, the slope is
    (1 - log 2) / (4 tau) - 3/4: above 0 for tau below 0.1, including the paper's and TRL's 0.05,
    so that a policy at its reference is pushed the wrong way, to a minimum just below 0, and stays.

    For u far below 0 the weight cancels the exponential: exp(-u) g is exp(u / tau - u) there, and
    computed that way, so that nothing overflows for tau below 1.
    """

    beta: float = 0.05
    tau: float = 0.2

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_range("tau", self.tau, 1e-6, 1.0)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        u = self.beta * logps.delta
        gate = u / self.tau
        # g exp(-u) = exp(logsigmoid(gate) - u)
        loss = -torch.sigmoid(-gate) * logsigmoid(u) + torch.exp(logsigmoid(gate) - u)
        return with_rewards(loss, logps, self.beta)
