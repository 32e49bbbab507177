"""The KL between two policies' predictions, without ever holding all logits of either.

Both share the output layer, so a policy is its last hidden states. As for log-probs, the vocabulary
is processed in blocks of columns whose running sums are rescaled when a larger logit is found.
"""

from functools import partial

import torch
from torch import Tensor

from fastslow.scoring.lm_head import Head
from fastslow.scoring.row_by_row import RunningSoftmax, row_by_row, wide


def prediction_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)), [S], nats, of logits [S, V], at least float32."""
    p, q = wide(teacher).log_softmax(-1), wide(student).log_softmax(-1)
    return torch.where(p.isneginf(), 0.0, p.exp() * (p - q)).sum(-1)


def chunked_kl(head: Head, teacher: Tensor, student: Tensor, *, rows: int, columns: int) -> Tensor:
    """prediction_kl(head.logits(teacher), head.logits(student)), [S], with at most [rows, columns]
    logits of each at once.

    Of hidden states, [S, d] each. Gradients reach the student's alone, and not the head's weights.
    """
    return row_by_row(student, teacher.detach(), partial(_kl, head, columns=columns), rows=rows)


def _kl(
    head: Head, student: Tensor, teacher: Tensor, *, columns: int
) -> tuple[Tensor, Tensor | None]:
    """The KL of each row, [S], and where the student wants one its gradient, [S, d]."""
    learning = student.requires_grad
    p, q = RunningSoftmax(teacher), RunningSoftmax(student)
    gap, of_p, of_q = (
        torch.zeros_like(v, dtype=p.total.dtype) for v in (p.total, student, student)
    )
    for first in range(0, head.linear.weight.shape[0], columns):
        block = slice(first, first + columns)
        with torch.no_grad():
            of_teacher = wide(head.columns(teacher, block))
        with torch.set_grad_enabled(learning):
            made = head.columns(student, block)
        of_student = wide(made.detach())
        gaps = of_teacher - of_student
        weights, fewer = p.add(of_teacher)
        # What is never said counts nothing, also where neither can say it: inf - inf.
        gaps = torch.where(weights > 0, weights * gaps, 0.0)
        gap.mul_(fewer).add_(gaps.sum(-1, keepdim=True))
        if learning:
            kind = made.dtype
            (slope,) = torch.autograd.grad(made, student, weights.to(kind), retain_graph=True)
            of_p.mul_(fewer).add_(slope)
        weights, fewer = q.add(of_student)
        if learning:
            (slope,) = torch.autograd.grad(made, student, weights.to(made.dtype))
            of_q.mul_(fewer).add_(slope)
    kl = gap / p.total - (p.top + p.total.log()) + (q.top + q.total.log())
    return kl.squeeze(-1), of_q / q.total - of_p / p.total if learning else None
