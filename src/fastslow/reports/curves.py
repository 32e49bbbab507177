"""Arithmetic on curves: smoothing, thinning, summing, comparing. Linear in their length."""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from fastslow.reports.events import Record


@dataclass(frozen=True, slots=True)
class Curve:
    """Points in the order of x."""

    x: Sequence[float]
    y: Sequence[float]


def present(x: Sequence[int], y: Sequence[float | None]) -> Curve:
    """The curve through the points that have a value."""
    return Curve(
        array("q", (a for a, b in zip(x, y, strict=True) if b is not None)),
        array("d", (b for b in y if b is not None)),
    )


def trailing_mean(curve: Curve, width: float) -> Curve:
    """Each value replaced by the mean of itself and those less than `width` (above 0) before it.

    >>> list(trailing_mean(Curve([1, 2, 3], [0.0, 2.0, 4.0]), width=2).y)
    [0.0, 1.0, 3.0]
    """
    means, first, total = array("d"), 0, 0.0
    for index, (x, y) in enumerate(zip(curve.x, curve.y, strict=True)):
        total += y
        while curve.x[first] <= x - width:
            total -= curve.y[first]
            first += 1
        means.append(total / (index - first + 1))
    return Curve(curve.x, means)


def thinned(curve: Curve, limit: int) -> Curve:
    """At most `limit` of the points: the first, the last, and each stretch's lowest and highest.

    Peaks survive, so a thinned curve looks like the whole one.
    """
    count = len(curve.x)
    if count <= limit:
        return curve
    stretches = (limit - 2) // 2
    kept = {0, count - 1}
    for number in range(stretches):
        stretch = range(number * count // stretches, (number + 1) * count // stretches)
        kept |= {min(stretch, key=curve.y.__getitem__), max(stretch, key=curve.y.__getitem__)}
    order = sorted(kept)
    return Curve([curve.x[i] for i in order], [curve.y[i] for i in order])


def cumulative(records: Sequence[Record], key: str) -> Curve:
    """The leader's `loss`, or another value, summed over pairs in order, starting at (0, 0)."""
    x, y = array("q", [0]), array("d", [0.0])
    for record in records:
        for pairs, mean in zip(record.steps.pairs, record.steps.values[key], strict=True):
            y.append(y[-1] + mean * (pairs - x[-1]))
            x.append(pairs)
    return Curve(x, y)


def above(curve: Curve, other: Curve) -> Curve:
    """The curve minus another, whose points are joined by straight lines.

    >>> list(above(Curve([0, 1, 2], [0.0, 3.0, 4.0]), Curve([0, 2], [0.0, 2.0])).y)
    [0.0, 2.0, 2.0]
    """
    heights = (y - _at(other, x) for x, y in zip(curve.x, curve.y, strict=True))
    return Curve(curve.x, array("d", heights))


def _at(curve: Curve, x: float) -> float:
    right = bisect_left(curve.x, x)
    if curve.x[right] == x:
        return curve.y[right]
    left = right - 1
    share = (x - curve.x[left]) / (curve.x[right] - curve.x[left])
    return curve.y[left] + share * (curve.y[right] - curve.y[left])
