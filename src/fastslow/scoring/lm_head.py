"""Log-probs of given tokens from hidden states, without ever holding all logits.

The vocabulary is processed in blocks of columns, as flash attention processes its keys: the running
sum is rescaled when a larger logit is found. A block of logits stays in the CPU's cache, and none
is computed twice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastslow.scoring.row_by_row import RunningSoftmax, row_by_row, wide


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax(logits)[target], [S], of logits [S, V], at least float32."""
    return wide(logits).log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)


@dataclass(frozen=True, slots=True)
class Head:
    """A model's output layer."""

    linear: Any
    """torch's linear layer, [V, d]."""
    after: Callable[[Tensor], Tensor]
    """Applied to each logit. Elementwise, and its gradient does not need its result, which is
    overwritten."""

    def logits(self, hidden: Tensor) -> Tensor:
        """[S, V] for hidden states [S, d]."""
        return self.after(self.linear(hidden))

    def columns(self, hidden: Tensor, columns: slice) -> Tensor:
        """The logits of some vocabulary tokens, as a new tensor."""
        bias = self.linear.bias
        of_columns = None if bias is None else bias[columns]
        return self.after(functional.linear(hidden, self.linear.weight[columns], of_columns))

    def at(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The logit of each state's target, [S], without rounding on the way."""
        found = (hidden * self.linear.weight[targets]).sum(-1)
        bias = self.linear.bias
        return self.after(found if bias is None else found + bias[targets])


def chunked_logps(
    head: Head, hidden: Tensor, targets: Tensor, *, rows: int, columns: int
) -> Tensor:
    """token_logps(head.logits(hidden), targets), [S], with at most [rows, columns] logits at once.

    Gradients reach the hidden states, but not the head's weights.
    """

    def compute(states: Tensor, of: Tensor) -> tuple[Tensor, Tensor | None]:
        logps, mean = _log_softmax(head, states, of, columns)
        if mean is None:
            return logps, None
        with torch.enable_grad():
            (of_target,) = torch.autograd.grad(head.at(states, of).sum(), states)
        return logps, of_target - mean

    return row_by_row(hidden, targets, compute, rows=rows)


def _log_softmax(
    head: Head, hidden: Tensor, targets: Tensor, columns: int
) -> tuple[Tensor, Tensor | None]:
    """log softmax(z)[target], [S], and where hidden states want a gradient the mean over the
    softmax of the gradients of the logits, [S, d]."""
    running = RunningSoftmax(hidden)
    said = torch.zeros_like(running.total)
    mean = torch.zeros_like(hidden, dtype=said.dtype) if hidden.requires_grad else None
    for first in range(0, head.linear.weight.shape[0], columns):
        with torch.set_grad_enabled(mean is not None):
            made = head.columns(hidden, slice(first, first + columns))
        z = wide(made.detach())
        place = targets[:, None] - first
        inside = (place >= 0) & (place < z.shape[1])
        said = torch.where(inside, z.gather(-1, place.clamp(0, z.shape[1] - 1)), said)
        weights, fewer = running.add(z)
        if mean is not None:
            (slope,) = torch.autograd.grad(made, hidden, weights.to(made.dtype))
            mean.mul_(fewer).add_(slope)
    logps = (said - running.top - running.total.log()).squeeze(-1)
    return logps, None if mean is None else mean / running.total
