"""f-divergences in place of DPO's reverse KL.

Source: f-DPO, arXiv 2309.16240, Theorem 1: the implicit reward is beta f'(pi / pi_ref), up to a
constant that cancels between the responses of a prompt. With h the log-ratio:

    reverse_kl   h
    forward_kl   -exp(-h)
    js           logsigmoid(h)              (log 2 + this is f')
    alpha        (1 - exp(-a h)) / a        between reverse KL (a -> 0) and forward KL (a = 1)

Deviation: exponents are capped at 30, beyond which the gradient of that response is 0.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

DIVERGENCES = ("reverse_kl", "forward_kl", "js", "alpha")
CAP = 30.0


def link(log_ratio: Tensor, divergence: str, alpha: float) -> Tensor:
    """f' of the density ratio with the given log, up to a constant, in units of beta's reward."""
    if divergence == "forward_kl":
        return -torch.exp(_capped(-log_ratio))
    if divergence == "js":
        return logsigmoid(log_ratio)
    if divergence == "alpha":
        return -torch.expm1(_capped(-alpha * log_ratio)) / alpha
    return log_ratio


def _capped(exponent: Tensor) -> Tensor:
    return exponent.clamp(max=CAP)
