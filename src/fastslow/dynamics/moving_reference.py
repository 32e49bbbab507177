"""A reference that goes after the policy: TR-DPO, arXiv 2404.09656.

    every `every` steps   reference <- (1 - share) reference + share policy

A share of 1 is the paper's hard update, one below 1 its soft update; with `every` 1 and a small
share the reference is an exponential moving average of the policy.

Deviation: what is averaged are the weights that train, LoRA's factors A and B, not the updates B A.
"""

from collections.abc import Sequence

from torch import Tensor


def ema_update(reference: Sequence[Tensor], policy: Sequence[Tensor], *, share: float) -> None:
    """Move each tensor of the reference towards the policy's of the same shape, in place.

    Args:
        reference: tensors of a frozen module.
        policy: tensors of a trained one, in the same order; they stay as they are.
        share: of the way, above 0; with 1 the reference becomes the policy, bit for bit.
    """
    for own, its in zip(reference, policy, strict=True):
        own.lerp_(its.detach(), share)
