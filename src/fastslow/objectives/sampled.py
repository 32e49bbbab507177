"""Losses of answers that the policy itself gave: what a gradient has to be taken of.

All tensors are [P, K]: P prompts with K answers each, log-probs summed over an answer's tokens
(end-of-turn included), nats. Answers are sampled without gradient; a surrogate's gradient, not its
value, is what is estimated.

Sources: HyPO, arXiv 2406.01462, Algorithm 1; leave-one-out, RLOO, arXiv 2402.14740.
"""

import torch
from torch import Tensor


def leave_one_out(values: Tensor) -> Tensor:
    """Each value less the mean of its row's others, [P, K]; one alone is left as it is.

    Each row adds up to 0, and what is added to a whole row does not matter.
    """
    count = values.shape[1]
    if count == 1:
        return values
    return (values - values.mean(1, keepdim=True)) * (count / (count - 1))


def reverse_kl_surrogate(policy: Tensor, reference: Tensor) -> Tensor:
    """Its gradient is, in expectation over the answers, that of KL(policy || reference), [P, K].

    sg[c] log pi with c = log pi - log pi_ref less the mean of the prompt's other answers. (The mean
    of log pi - log pi_ref itself, differentiated, has an expected gradient of zero.)
    """
    log_ratio = (policy - reference).detach()
    return leave_one_out(log_ratio) * policy


def sampled_reverse_kl(policy: Tensor, reference: Tensor) -> Tensor:
    """Unbiased estimate of each prompt's KL(policy || reference) itself, [P], nats, detached."""
    return torch.mean((policy - reference).detach(), dim=1)
