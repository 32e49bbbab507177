"""Whether the longest sequence of a row decides how its other tokens are read."""

from inspect import signature
from typing import Any

import torch

SAME = 1e-5
"""Difference of logits, as a share of the largest, that is rounding."""


def longest_decides(model: Any, *, near: int, far: int) -> bool:
    """Whether tokens mean something else in a row that has `far` positions than in one of `near`.

    Rotary embeddings that are stretched for long sequences choose the stretch once for all that is
    in the call (longrope, dynamic): a short one then has other log-probs beside a long one. Tried
    with four tokens, of which the last one, that the others do not see, stands far away.
    """
    rotates = any(hasattr(module, "inv_freq") for module in model.modules())
    if not rotates or far <= near or "position_ids" not in signature(model.forward).parameters:
        return False
    ids = torch.arange(4, device=model.get_input_embeddings().weight.device)[None]
    logits = []
    with torch.no_grad():
        for last in (far - 1, near - 1):  # The near one is last: some models remember the longest.
            positions = torch.tensor([[0, 1, 2, last]], device=ids.device)
            found = model(input_ids=ids, position_ids=positions, use_cache=False).logits
            logits.append(found[0, :3].float())
    of_far, of_near = logits
    return bool((of_far - of_near).abs().max() > SAME * of_near.abs().max())
