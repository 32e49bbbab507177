"""Regret: cumulative loss compared with that of a comparator."""

from collections.abc import Sequence
from itertools import accumulate


def regret_curve(losses: Sequence[float], comparator: Sequence[float]) -> list[float]:
    """Cumulative loss minus the comparator's after each step, in nats.

    Both are sums over the same pairs, each pair's loss taken before it was learned. Raises
    ValueError if the numbers of steps differ.

    >>> regret_curve([0.75, 0.5, 0.5], [0.5, 0.5, 0.25])
    [0.25, 0.25, 0.5]
    """
    _check_same_steps(losses, comparator)
    return list(accumulate(a - b for a, b in zip(losses, comparator, strict=True)))


def relative_regret(losses: Sequence[float], comparator: Sequence[float]) -> float:
    """Total loss above the comparator's, as a share of the comparator's.

    Raises ValueError if the numbers of steps differ, or the comparator's total is not above 0.

    >>> relative_regret([1.25, 1.25], [1.0, 1.0])
    0.25
    """
    _check_same_steps(losses, comparator)
    best = sum(comparator)
    if not best > 0:
        raise ValueError(
            f"the total loss of the comparator is {best}, so the relative regret is undefined"
        )
    return (sum(losses) - best) / best


def _check_same_steps(losses: Sequence[float], comparator: Sequence[float]) -> None:
    if len(losses) != len(comparator):
        raise ValueError(f"got {len(losses)} losses, but {len(comparator)} of the comparator")
