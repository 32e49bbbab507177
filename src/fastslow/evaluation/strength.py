"""The largest share of an update whose reverse KL is within a budget."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CLOSE = 0.9
"""Share of the budget at which a KL is close enough to it."""
MOST_TRIED = 8
"""Most strengths below 1 that are tried."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A strength that was tried."""

    strength: float
    """What the update was multiplied by."""
    reverse_kl: float
    """Of the policy at this strength, nats per answer."""


@dataclass(frozen=True, slots=True)
class WithinBudget:
    """How a policy was scaled to its budget, as summaries store it."""

    limit: float
    """Largest reverse KL, nats per answer."""
    strength: float
    """Strength of the policy that was kept."""
    reverse_kl: float
    """Of that policy."""
    tried: list[Tried]
    """In the order of trying."""
    full: str | None
    """Folder of the full update, if it was scaled down."""

    @classmethod
    def of(cls, limit: float, tried: Sequence[Tried]) -> "WithinBudget":
        """From the strengths tried, the last of which was kept."""
        return cls(limit, tried[-1].strength, tried[-1].reverse_kl, list(tried), None)


def strength_within(
    limit: float, reverse_kl: Callable[[float], float], *, from_reference: bool = True
) -> list[Tried]:
    """The strengths tried in the search for one within the budget, which is the last.

    1 is tried first and kept if its KL is within `limit`. Otherwise the strength is bracketed, and
    the next one interpolated in the square root of the KL, because near the reference the KL grows
    with the square of the update. The last is the strongest one found within the limit, or 0.

    Args:
        limit: largest reverse KL, above 0.
        reverse_kl: returns that of the policy at a strength.
        from_reference: whether strength 0 is the reference, whose KL needs no measuring.

    >>> [round(tried.strength, 3) for tried in strength_within(2.0, lambda s: 8.0 * s**2)]
    [1.0, 0.487]
    """
    tried = [Tried(1.0, reverse_kl(1.0))]
    if tried[0].reverse_kl <= limit:
        return tried
    low, high = Tried(0.0, 0.0 if from_reference else reverse_kl(0.0)), tried[0]
    # A KL that is NaN is within no limit.
    while low.reverse_kl < CLOSE * limit and len(tried) <= MOST_TRIED:
        strength = _between(low, high, limit)
        now = Tried(strength, reverse_kl(strength))
        tried.append(now)
        if now.reverse_kl <= limit:
            low = now
        else:
            high = now
    if tried[-1] != low:
        tried.append(low)
    return tried


def _between(low: Tried, high: Tried, limit: float) -> float:
    """Where a line through both, in the square root of the KL, meets a KL just within the limit;
    never in the outer tenths of the bracket, so that the bracket shrinks."""
    aim = (0.95 * limit) ** 0.5
    # Rounding may leave a KL of nothing below 0.
    below, above = max(low.reverse_kl, 0.0) ** 0.5, high.reverse_kl**0.5
    share = (aim - below) / (above - below) if math.isfinite(above) else 0.5
    return low.strength + min(max(share, 0.1), 0.9) * (high.strength - low.strength)


def scaled_to_budget(budget: Mapping[str, Any], name: str) -> str:
    """The message about a policy that was scaled down.

    Args:
        budget: `limit`, `strength` and `tried`, as a summary stores them.
        name: the policy's name.
    """
    points = sorted((tried["strength"], tried["reverse_kl"]) for tried in budget["tried"])
    frontier = ", ".join(f"{kl:.2f} at {strength:.2f}" for strength, kl in points)
    return (
        f"{name} was beyond the KL budget of {budget['limit']:.2f} nats per answer and is handed "
        f"over at {budget['strength']:.2f} of its update (reverse KL {frontier})"
    )
