"""Intervals around shares and means."""

import math
import random
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

Z95 = 1.959963984540054
T95 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)
"""Quantiles of Student's t with 1 to 9 degrees of freedom, as Z95 is of the normal distribution."""
RESAMPLES = 10_000
MOST = 2**53
"""Number of pairs above which a measurement must be damaged."""


def wilson_interval(wins: float, count: int, *, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share; a tie is half a win.

    Source: E. B. Wilson, JASA 22 (1927) 209. Raises ValueError unless 0 <= wins <= count > 0.

    >>> [round(bound, 4) for bound in wilson_interval(8, 10)]
    [0.4902, 0.9433]
    """
    if not (count > 0 and 0 <= wins <= count):
        raise ValueError(f"got {wins} wins of {count}; wins must lie between 0 and the count")
    share = wins / count
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    # Exact where all or nothing was won; rounding would slightly overshoot 0 or 1.
    low = (centre - half) / scale if wins else 0.0
    high = (centre + half) / scale if wins < count else 1.0
    return low, high


def bootstrap_interval(
    values: Sequence[float], *, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of independent values; deterministic for a seed.

    Raises ValueError without values, or unless 0 < level < 1.
    """
    if not values:
        raise ValueError("no values to resample")
    if not 0 < level < 1:
        raise ValueError(f"got level {level}; must lie between 0 and 1")
    draw = random.Random(seed)
    means = sorted(fmean(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    tail = round((1 - level) / 2 * RESAMPLES)
    return means[tail], means[RESAMPLES - 1 - tail]


def student_interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of two or more independent values.

    For few values, where a bootstrap resamples little more than their range: over two values it
    covers the mean half of the time.

    >>> [round(bound, 3) for bound in student_interval([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    half = _t95(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def _t95(freedom: int) -> float:
    """The quantile to a thousandth; beyond the table, Fisher's expansion around the normal one."""
    if freedom <= len(T95):
        return T95[freedom - 1]
    first, second = (Z95**3 + Z95) / 4, (5 * Z95**5 + 16 * Z95**3 + 3 * Z95) / 96
    return Z95 + first / freedom + second / freedom**2


def accuracy_interval(measured: Mapping[str, Any]) -> tuple[float, float] | None:
    """Wilson's 95 % interval of the accuracy of a held-out measurement, from its number of pairs.

    None if one of the two is missing or impossible, as may be in the file of an unknown run.

    >>> [round(bound, 4) for bound in accuracy_interval({"accuracy": 0.8, "pairs": 10})]
    [0.4902, 0.9433]
    >>> accuracy_interval({"accuracy": "high", "pairs": 10})
    """
    accuracy, pairs = measured.get("accuracy"), measured.get("pairs")
    if not isinstance(accuracy, (int, float)) or not isinstance(pairs, int):
        return None
    if not (0 <= accuracy <= 1 and 0 < pairs < MOST):
        return None
    return wilson_interval(min(accuracy * pairs, pairs), pairs)


def with_interval(value: float, bounds: tuple[float, float] | None) -> str:
    """A share as text, with its interval if there is one.

    >>> with_interval(0.8, (0.4902, 0.9433)), with_interval(0.8, None)
    ('0.800 (0.490 to 0.943)', '0.800')
    """
    between = " ({:.3f} to {:.3f})".format(*bounds) if bounds else ""
    return f"{value:.3f}{between}"
