"""Penalties that keep weights near where they were: L2-SP and elastic weight consolidation.

    L2-SP   (s/2) sum_i (w_i - a_i)^2            arXiv 1802.01483
    EWC     (s/2) sum_i F_i (w_i - a_i)^2        arXiv 1612.00796, diagonal Fisher information F

a are the weights at the end of the previous domain. Over LoRA modules w runs over A and B, so the
distance is between factors, not between updates.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def anchor_penalty(
    weights: Sequence[Tensor],
    anchors: Sequence[Tensor],
    importance: Sequence[Tensor] | None,
    *,
    strength: float,
) -> Tensor:
    """The penalty, a scalar; its gradient reaches the weights only.

    Args:
        weights: tensors of one module.
        anchors: the weights they are kept near, same shapes.
        importance: F of each weight, same shapes; None weights all equally.
        strength: s.
    """
    total = torch.zeros((), device=weights[0].device)
    for index, (weight, anchor) in enumerate(zip(weights, anchors, strict=True)):
        distance = (weight - anchor.detach()).square()
        total = total + (distance if importance is None else importance[index] * distance).sum()
    return 0.5 * strength * total
