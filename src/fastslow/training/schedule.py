"""Learning rate over a run."""

import math


def rate_factor(step: int, *, schedule: str, warmup_steps: int, total_steps: int | None) -> float:
    """Share of the peak learning rate for the update after `step` finished ones.

    Rises linearly over `warmup_steps`, then stays (`constant`) or falls to 0 at `total_steps`
    (`linear`, `cosine`). Never 0 for a step that is taken.

    >>> [rate_factor(s, schedule="linear", warmup_steps=0, total_steps=4) for s in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    assert total_steps is not None
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    # The stream's pairs are estimated; those beyond the estimate still learn a little.
    share = min(share, 1 - 1 / (total_steps + 1))
    return 0.5 * (1 + math.cos(math.pi * share)) if schedule == "cosine" else 1 - share
