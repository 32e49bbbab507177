"""What the processes of a run have to agree on."""

from collections.abc import Mapping

import torch
from accelerate import Accelerator


def summed(
    accelerator: Accelerator, sums: Mapping[str, float], count: int
) -> tuple[dict[str, float], int]:
    """Sums over a batch, and its size, added up over the shares that the processes have of it."""
    if accelerator.num_processes == 1:
        return dict(sums), count
    own = torch.tensor([*sums.values(), count], dtype=torch.float64, device=accelerator.device)
    *totals, all_of_them = accelerator.reduce(own, reduction="sum").tolist()
    return dict(zip(sums, totals, strict=True)), round(all_of_them)
