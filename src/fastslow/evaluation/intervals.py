"""Intervals around a share and around a mean."""

import math
import random
from collections.abc import Sequence
from statistics import fmean

Z95 = 1.959963984540054
RESAMPLES = 10_000


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
    # Exact where all or nothing was won; rounding would step over the end by a hair.
    low = (centre - half) / scale if wins else 0.0
    high = (centre + half) / scale if wins < count else 1.0
    return low, high


def bootstrap_interval(
    values: Sequence[float], *, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of independent values; the same seed, the same.

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
