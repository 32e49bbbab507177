"""Small output layers in float64, and hidden states for them."""

import torch
from torch import nn

from fastslow.scoring.lm_head import Head

WORDS, WIDTH, TOKENS = 37, 6, 11


def draw(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, dtype=torch.float64, generator=generator)


def a_head(after=lambda logits: logits, *, bias=True):
    linear = nn.Linear(WIDTH, WORDS, bias=bias, dtype=torch.float64).requires_grad_(False)
    linear.weight.copy_(draw(WORDS, WIDTH, seed=1, scale=3.0))
    if bias:
        linear.bias.copy_(draw(WORDS, seed=2))
    return Head(linear, after)


HEADS = {
    "plain": a_head(bias=False),
    "with a bias": a_head(),
    "scaled": a_head(lambda logits: logits / 0.7),
    "capped": a_head(lambda logits: torch.tanh(logits / 5) * 5),
}
TARGETS = torch.arange(0, WORDS, 4)[:TOKENS]
STATES = draw(len(TARGETS), WIDTH, seed=3)
