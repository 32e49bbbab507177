"""A reference that follows the policy: TR-DPO, arXiv 2404.09656.

    every `every` steps   reference <- (1 - share) reference + share policy

A share of 1 is the paper's hard update, a share below 1 its soft update; with `every` 1 and a small
share the reference is an exponential moving average of the policy.

Deviation: the trained weights are averaged, LoRA's factors A and B, not the updates B A.
"""

from collections.abc import Sequence

from torch import Tensor


def ema_update(reference: Sequence[Tensor], policy: Sequence[Tensor], *, share: float) -> None:
    """Move each tensor of the reference towards the policy's of the same shape, in place.

    Args:
        reference: tensors of a frozen module.
        policy: tensors of a trained module, in the same order; not changed.
        share: of the way to the policy, above 0; with 1 the reference becomes it, bit for bit.
    """
    for tensor, target in zip(reference, policy, strict=True):
        tensor.lerp_(target.detach(), share)
