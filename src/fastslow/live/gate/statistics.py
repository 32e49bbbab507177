"""Tests of one policy against another on the same cases."""

import math
from collections.abc import Sequence

from scipy.special import betainc, betaln
from scipy.stats import binomtest, fisher_exact, norm, ttest_1samp

Seen = tuple[int, int]
"""In how many of how many cases something is seen."""


def worse_by_chance(won: int, lost: int) -> float:
    """The exact McNemar test, one-sided: how likely so many cases are lost, or more, of those on
    which the two differ, if both are equally good. 1 where they differ on none.

    >>> round(worse_by_chance(won=2, lost=8), 4)
    0.0547
    """
    if won + lost == 0:
        return 1.0
    return float(binomtest(lost, won + lost, 0.5, alternative="greater").pvalue)


def more_often_by_chance(now: int, of_now: int, before: int, of_before: int) -> float:
    """Fisher's exact test, one-sided: how likely something is seen so often now, if it is as
    frequent as before.

    >>> more_often_by_chance(14, 64, 0, 64) < 1e-4
    True
    """
    table = [[now, of_now - now], [before, of_before - before]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def rises_by_chance(own: Seen, plain: Seen, before: Seen, before_plain: Seen) -> float:
    """How likely a share rises by so much more than another did, if it rises by no more: the
    difference of two differences of shares, one-sided, by its normal approximation.

    >>> rises_by_chance((40, 256), (0, 256), (0, 256), (0, 256)) < 1e-6
    True
    >>> round(rises_by_chance((40, 64), (20, 64), (40, 64), (20, 64)), 2)
    0.5
    """
    # Half a case more on either side: what is never seen is not for certain.
    shares = [(hits + 0.5) / (of + 1) for hits, of in (own, plain, before, before_plain)]
    rise = (shares[0] - shares[1]) - (shares[2] - shares[3])
    sizes = (own[1], plain[1], before[1], before_plain[1])
    variance = sum(p * (1 - p) / of for p, of in zip(shares, sizes, strict=True))
    return float(norm.sf(rise / math.sqrt(variance)))


def above_zero_by_chance(values: Sequence[float]) -> float:
    """Student's t-test, one-sided: how likely the mean is so far above 0, or further, if it is 0 or
    less. 1 where all values are 0 or less and of fewer than two, 0 where all are the same above it.

    >>> round(above_zero_by_chance([1.0, 2.0, 3.0]), 4)
    0.0371
    """
    if len(values) < 2 or max(values) <= 0:
        return 1.0
    if max(values) == min(values):
        return 0.0
    return float(ttest_1samp(values, 0.0, alternative="greater").pvalue)


def e_value(lost: int, won: int) -> float:
    """How much evidence there is that more are lost than won: what somebody has made of 1 who bets
    on that, at even odds, with every share above a half alike.

    If no more are lost than won, it ever comes to x with a probability of at most 1/x, so it may be
    looked at after every case (Ville's inequality). 2^(n+1) times the integral of
    p^lost (1-p)^won over p from 1/2 to 1.

    >>> e_value(0, 0), round(e_value(2, 0), 3), e_value(20, 2) > 100, e_value(60, 50) < 10
    (1.0, 2.333, True, True)
    """
    a, b = lost + 1.0, won + 1.0
    upper = float(betainc(b, a, 0.5))  # Of Beta(a, b), above a half.
    if upper == 0.0:
        return 0.0
    return math.exp((a + b - 1) * math.log(2) + float(betaln(a, b)) + math.log(upper))
