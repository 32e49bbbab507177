"""Mean and deviation of a statistic over the steps so far, forgetting old ones.

An exponential average that starts at 0 is too small by the factor 1 - decay^n after n steps;
`weight` keeps that factor.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and deviation, corrected for starting at 0."""

    mean: float
    deviation: float


def fresh() -> dict[str, float]:
    """State before the first step."""
    return {"mean": 0.0, "deviation": 0.0, "weight": 0.0}


def moments(state: Mapping[str, float]) -> Moments | None:
    """Moments from the state; None before the first step."""
    weight = state.get("weight")
    if not weight:
        return None
    return Moments(state["mean"] / weight, state["deviation"] / weight)


def sums(values: Tensor) -> dict[str, Tensor]:
    """Inputs of `advanced` from values [B]: their sum and that of their squares.

    On the CPU, as not every device has float64.
    """
    values = values.detach().cpu().double()
    return {"sum": values.sum(), "square": values.square().sum()}


def advanced(
    state: Mapping[str, float], sums: Mapping[str, float], count: int, *, decay: float
) -> dict[str, float]:
    """The state after a step over `count` values. One value has no deviation."""
    mean = sums["sum"] / count
    # Divided by count - 1, like torch.std.
    spread = max(sums["square"] - count * mean**2, 0.0) / max(count - 1, 1)
    seen = {"mean": mean, "deviation": math.sqrt(spread), "weight": 1.0}
    return {key: decay * state.get(key, 0.0) + (1 - decay) * seen[key] for key in seen}
