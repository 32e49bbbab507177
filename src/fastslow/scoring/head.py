"""Log-probs of given tokens from hidden states, without ever holding all logits."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Logits = Callable[[Tensor], Tensor]
"""Hidden states [S, d] to logits [S, V], row by row."""


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax(logits)[target], [S], of logits [S, V], at least float32."""
    picked: Tensor = _Picked.apply(logits, targets)  # type: ignore[no-untyped-call]
    return picked


def chunked_logps(logits: Logits, hidden: Tensor, targets: Tensor, *, size: int) -> Tensor:
    """token_logps(logits(hidden), targets), [S], with `size` rows of logits held at a time.

    A row's log-prob depends on its own hidden state only, so where gradients are needed the slope
    of each, as large as the hidden state, is kept from the forward pass on, and no logits are made
    a second time. Gradients reach the hidden states, and nothing that `logits` holds.
    """
    found: Tensor = _Chunked.apply(hidden, targets, logits, size)  # type: ignore[no-untyped-call]
    return found


class _Picked(torch.autograd.Function):
    """In place where autograd would hold the softmax beside the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        total = wide.logsumexp(-1)
        ctx.save_for_backward(logits, targets, total)
        return wide.gather(-1, targets[:, None]).squeeze(-1) - total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        logits, targets, total = ctx.saved_tensors
        # d/dlogits = slope * (one at the target - softmax)
        found = (logits - total[:, None]).exp_().mul_(-slope[:, None])
        found.scatter_add_(-1, targets[:, None], slope[:, None])
        return found.to(logits.dtype), None


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, logits: Logits, size: int) -> Tensor:
        needed = ctx.needs_input_grad[0]
        chunks = zip(hidden.split(size), targets.split(size), strict=True)
        if not needed:
            return torch.cat([token_logps(logits(h), t) for h, t in chunks])
        parts, slopes = [], []
        for h, t in chunks:
            with torch.enable_grad():
                leaf = h.detach().requires_grad_()
                logps = token_logps(logits(leaf), t)
                (slope,) = torch.autograd.grad(logps.sum(), leaf)
            parts.append(logps.detach())
            slopes.append(slope)
        ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(parts)

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return (gradient[:, None] * slopes).to(slopes.dtype), None, None, None
