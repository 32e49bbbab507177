"""The KL between two policies' predictions, without ever holding all logits of either.

Both share the output layer, so a policy is its last hidden states. As for log-probs, the vocabulary
is processed in blocks of columns whose running sums are rescaled when a larger logit is found.
"""

from typing import Any

import torch
from torch import Tensor

from fastslow.scoring.lm_head import Head, wide


def prediction_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)), [S], nats, of logits [S, V], at least float32."""
    p, q = wide(teacher).log_softmax(-1), wide(student).log_softmax(-1)
    return torch.where(p.isneginf(), 0.0, p.exp() * (p - q)).sum(-1)


def chunked_kl(head: Head, teacher: Tensor, student: Tensor, *, rows: int, columns: int) -> Tensor:
    """prediction_kl(head.logits(teacher), head.logits(student)), [S], with at most [rows, columns]
    logits of each at once.

    Of hidden states, [S, d] each. Gradients reach the student's alone, and not the head's weights;
    each row's is computed in the forward pass.
    """
    found: Tensor = _Chunked.apply(student, teacher.detach(), head, rows, columns)  # type: ignore[no-untyped-call]
    return found


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, head: Head, rows: int, columns: int
    ) -> Tensor:
        parts, slopes = [], []
        for own, given in zip(student.split(rows), teacher.split(rows), strict=True):
            states = own.detach().requires_grad_(ctx.needs_input_grad[0])
            kl, slope = _kl(head, given, states, columns)
            parts.append(kl)
            if slope is not None:
                slopes.append(slope)
        if slopes:
            ctx.save_for_backward(torch.cat(slopes))
            ctx.dtype = student.dtype
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return (gradient[:, None] * slopes).to(ctx.dtype), None, None, None, None


class _Softmax:
    """Sums over a softmax of logits that come block by block."""

    def __init__(self, like: Tensor, *, slopes: bool) -> None:
        kind: dict[str, Any] = {"dtype": wide(like).dtype, "device": like.device}
        self._top = torch.full((len(like), 1), torch.finfo(kind["dtype"]).min, **kind)
        self._total = torch.zeros_like(self._top)
        self._gap = torch.zeros_like(self._top)
        self._slope = torch.zeros_like(like, **kind) if slopes else None

    def add(self, logits: Tensor, made: Tensor, states: Tensor, gap: Tensor | None = None) -> None:
        """Take a block: its logits, the differentiable ones whose gradient at the states is
        averaged, and what else is averaged."""
        higher = torch.maximum(self._top, logits.amax(-1, keepdim=True))
        weights, fewer = (logits - higher).exp_(), (self._top - higher).exp_()
        self._total.mul_(fewer).add_(weights.sum(-1, keepdim=True))
        if gap is not None:
            # What is never said counts nothing, also where neither can say it: inf - inf.
            gaps = torch.where(weights > 0, weights * gap, 0.0)
            self._gap.mul_(fewer).add_(gaps.sum(-1, keepdim=True))
        if self._slope is not None:
            (slope,) = torch.autograd.grad(made, states, weights.to(made.dtype), retain_graph=True)
            self._slope.mul_(fewer).add_(slope)
        self._top = higher

    @property
    def log_total(self) -> Tensor:
        """log sum exp of the logits, [S, 1]."""
        return self._top + self._total.log()

    @property
    def gap(self) -> Tensor:
        """Mean of what else was given, [S, 1]."""
        return self._gap / self._total

    @property
    def slope(self) -> Tensor | None:
        """Mean gradient of the logits, [S, d]."""
        return None if self._slope is None else self._slope / self._total


def _kl(head: Head, teacher: Tensor, student: Tensor, columns: int) -> tuple[Tensor, Tensor | None]:
    """The KL of each row, [S], and where the student wants one its gradient, [S, d]."""
    learning = student.requires_grad
    p, q = _Softmax(student, slopes=learning), _Softmax(student, slopes=learning)
    for first in range(0, head.linear.weight.shape[0], columns):
        block = slice(first, first + columns)
        with torch.no_grad():
            of_teacher = wide(head.columns(teacher, block))
        with torch.set_grad_enabled(learning):
            made = head.columns(student, block)
        of_student = wide(made.detach())
        p.add(of_teacher, made, student, of_teacher - of_student)
        q.add(of_student, made, student)
    kl = (p.gap - p.log_total + q.log_total).squeeze(-1)
    return kl, None if q.slope is None or p.slope is None else q.slope - p.slope
