"""A pair of responses with round numbers, random ones, and what an objective says of them."""

import math

import torch

from fastslow.objectives import PairLogps, make_objective

LN2 = math.log(2)


def softplus(x):
    return math.log1p(math.exp(x))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def pair(h_w=2.0, h_l=-3.0, *, r_w=-12.0, r_l=-5.0, lengths=(4, 2), **extras):
    """One pair. As it stands s = (-10, -8), Delta = 5, m = -2, m_ref = -7, means (-2.5, -4)."""
    one = [torch.tensor([v], dtype=torch.float64) for v in (r_w + h_w, r_l + h_l, r_w, r_l)]
    return PairLogps(
        *one,
        *(torch.tensor([n]) for n in lengths),
        extras={name: torch.tensor([v], dtype=torch.float64) for name, v in extras.items()},
    )


def loss(name, logps, **hyper):
    return make_objective(name, **hyper)(logps).loss.item()


def slopes(name, logps, **hyper):
    """dL/ds_w and dL/ds_l."""
    for tensor in (logps.policy_chosen, logps.policy_rejected):
        tensor.requires_grad_().grad = None
    make_objective(name, **hyper)(logps).loss.sum().backward()
    return logps.policy_chosen.grad.item(), logps.policy_rejected.grad.item()


def random_pairs(seed=0, dtype=torch.float32, count=200, **extras):
    generator = torch.Generator().manual_seed(seed)
    sums = torch.randn(4, count, generator=generator, dtype=torch.float64) * 25 - 80
    lengths = torch.randint(1, 90, (2, count), generator=generator)
    extras = {name: torch.full((count,), value, dtype=dtype) for name, value in extras.items()}
    return PairLogps(*sums.to(dtype), *lengths, extras=extras)


def loss_and_slopes(logps, name, hyper):
    """Loss and slopes of a batch."""
    s_w, s_l = logps.policy_chosen.requires_grad_(), logps.policy_rejected.requires_grad_()
    out = make_objective(name, **hyper)(logps).loss
    return out, *torch.autograd.grad(out.sum(), (s_w, s_l))
