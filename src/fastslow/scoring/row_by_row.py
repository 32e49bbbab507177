"""What is computed of each hidden state from all its logits, a block of columns at a time.

The running sums of a softmax are rescaled when a larger logit is found, as flash attention does.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Rows = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""Of hidden states that may want a gradient, [S, d], and what is beside each: a value of each, [S],
and its gradient, [S, d], where they want one."""


def row_by_row(hidden: Tensor, beside: Tensor, compute: Rows, *, rows: int) -> Tensor:
    """A value of each hidden state, [S], computed from at most `rows` of them at once.

    A row's value depends only on its own hidden state, so if gradients are needed, the gradient of
    each row, as large as the hidden state, is computed in the forward pass.
    """
    found: Tensor = _RowByRow.apply(hidden, beside, compute, rows)  # type: ignore[no-untyped-call]
    return found


class _RowByRow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, beside: Tensor, compute: Rows, rows: int) -> Tensor:
        parts, slopes = [], []
        for own, given in zip(hidden.split(rows), beside.split(rows), strict=True):
            states = own.detach().requires_grad_(ctx.needs_input_grad[0])
            values, slope = compute(states, given)
            parts.append(values)
            if slope is not None:
                slopes.append(slope)
        if slopes:
            ctx.save_for_backward(torch.cat(slopes))
            ctx.dtype = hidden.dtype
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return (gradient[:, None] * slopes).to(ctx.dtype), None, None, None


class RunningSoftmax:
    """The largest logit and the sum of a softmax over blocks of columns, [S, 1] each."""

    def __init__(self, hidden: Tensor) -> None:
        kind: dict[str, Any] = {"dtype": wide(hidden).dtype, "device": hidden.device}
        self.top = torch.full((len(hidden), 1), torch.finfo(kind["dtype"]).min, **kind)
        self.total = torch.zeros_like(self.top)

    def add(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Take the logits of a block, which become its weights; what other sums over the blocks so
        far are to be multiplied by."""
        higher = torch.maximum(self.top, logits.amax(-1, keepdim=True))
        weights, fewer = logits.sub_(higher).exp_(), (self.top - higher).exp_()
        self.total.mul_(fewer).add_(weights.sum(-1, keepdim=True))
        self.top = higher
        return weights, fewer


def wide(values: Tensor) -> Tensor:
    """At least float32."""
    return values if values.dtype == torch.float64 else values.float()
