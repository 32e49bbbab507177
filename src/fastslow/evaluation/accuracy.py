"""Share of pairs that the policy ranks correctly relative to its reference."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def pair_accuracy(delta: "Tensor") -> "Tensor":
    """1 where Delta = m - m_ref is positive, 0 where it is negative, 0.5 where it is exactly 0.

    >>> import torch
    >>> pair_accuracy(torch.tensor([2.0, -1.0, 0.0]))
    tensor([1.0000, 0.0000, 0.5000])
    """
    return 0.5 * (delta.sign() + 1)
