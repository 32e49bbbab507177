"""Mallows-DPO: pairs on which people agree count more than pairs on which they differ.

Source: arXiv 2405.14953. The dispersion of a pair is E in (0, 1), the reference's mean entropy per
token over both responses as a share of the vocabulary's log, as the official code computes it,
once, from the reference. Log-probs are summed over tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps, needed
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_positive

NEVER_0_OR_1 = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Mallows(Objective):
    """L = -logsigmoid(c u), c = -scale log E: the theta (Spearman) variant.

    `scale` is the official code's 0.29, which makes c about 1 on average for a vocabulary of 128k;
    the paper writes c = -2 log phi for a dispersion phi. At c = 1 this is DPO.
    """

    beta: float = 0.1
    scale: float = 0.29

    needs = ("dispersion",)

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_positive("scale", self.scale)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        factor = -self.scale * _dispersion(logps).log()
        return with_rewards(-logsigmoid(factor * self.beta * logps.delta), logps, self.beta)


@dataclass(frozen=True, slots=True, kw_only=True)
class MallowsPhi(Objective):
    """L = -log g(u): the phi (Kendall) variant, with phi = E^(scale / 2) so that c = -2 log phi.

        g(k) = (k + 1) / (1 - phi^(k + 1)) - k / (1 - phi^k)   for k > 0,   g(-k) = 1 - g(k)

    g is the probability that an item ranked k places higher wins. It jumps at 0, by up to
    2 |g(0+) - 1/2| (0.08 for phi = 0.6), and how the paper smooths that is not known. u = 0 is
    treated as k -> 0+, so that a fresh policy has a gradient.
    """

    beta: float = 0.1
    scale: float = 0.29

    needs = ("dispersion",)

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_positive("scale", self.scale)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        rate = -0.5 * self.scale * _dispersion(logps).log()
        u = self.beta * logps.delta
        places = torch.where(u >= 0, u, -u)
        log_lost = _log_lost(places, rate)
        # log(1 - exp(x)) for x < 0.
        log_won = torch.log1p(-torch.exp(log_lost))
        return with_rewards(-torch.where(u >= 0, log_won, log_lost), logps, self.beta)


def _dispersion(logps: PairLogps) -> Tensor:
    return needed(logps, "dispersion").clamp(NEVER_0_OR_1, 1 - NEVER_0_OR_1)


def _log_lost(places: Tensor, rate: Tensor) -> Tensor:
    """log(1 - g(k)), which is log(q(k) - q(k + 1)) with q(x) = x / (exp(rate x) - 1)."""
    lower, upper = (_log_ratio_to_expm1(rate * x) for x in (places, places + 1))
    return lower - rate.log() + torch.log1p(-torch.exp(upper - lower))


def _log_ratio_to_expm1(y: Tensor) -> Tensor:
    """log(y / (exp(y) - 1)) for y >= 0, by its series near 0."""
    near = y < 0.1
    far = torch.where(near, 1.0, y)
    return torch.where(
        near,
        -y / 2 - y**2 / 24 + y**4 / 2880 - y**6 / 181440,
        far.log() - far - torch.log(-torch.expm1(-far)),
    )
