"""Statistical tests of one policy against another on the same cases."""

import math
from collections.abc import Sequence

from scipy.special import betainc, betaln
from scipy.stats import binomtest, fisher_exact, norm, ttest_1samp

Seen = tuple[int, int]
"""The number of cases in which something is seen, and the number of cases."""


def worse_by_chance(won: int, lost: int) -> float:
    """One-sided exact McNemar test: the probability of losing at least so many of the cases on
    which two policies differ, if both are equally good. 1 if they differ on none.

    >>> round(worse_by_chance(won=2, lost=8), 4)
    0.0547
    """
    if won + lost == 0:
        return 1.0
    return float(binomtest(lost, won + lost, 0.5, alternative="greater").pvalue)


def more_often_by_chance(now: int, of_now: int, before: int, of_before: int) -> float:
    """One-sided Fisher's exact test: the probability of seeing something at least so often now, if
    it is as frequent as before.

    >>> more_often_by_chance(14, 64, 0, 64) < 1e-4
    True
    """
    table = [[now, of_now - now], [before, of_before - before]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def rises_by_chance(own: Seen, plain: Seen, before: Seen, before_plain: Seen) -> float:
    """The probability that a share rises by so much more than another did, if it rises by no more:
    a one-sided test of the difference of two differences of shares, by normal approximation.

    >>> rises_by_chance((40, 256), (0, 256), (0, 256), (0, 256)) < 1e-6
    True
    >>> round(rises_by_chance((40, 64), (20, 64), (40, 64), (20, 64)), 2)
    0.5
    """
    # Half a case is added on either side: what was never seen is not impossible.
    shares = [(hits + 0.5) / (of + 1) for hits, of in (own, plain, before, before_plain)]
    rise = (shares[0] - shares[1]) - (shares[2] - shares[3])
    sizes = (own[1], plain[1], before[1], before_plain[1])
    variance = sum(p * (1 - p) / of for p, of in zip(shares, sizes, strict=True))
    return float(norm.sf(rise / math.sqrt(variance)))


def above_zero_by_chance(values: Sequence[float]) -> float:
    """One-sided Student's t-test: the probability of a mean at least so far above 0, if the true
    mean is 0 or less. 1 if all values are 0 or less or there are fewer than two, 0 if all are equal
    and above 0.

    >>> round(above_zero_by_chance([1.0, 2.0, 3.0]), 4)
    0.0371
    """
    if len(values) < 2 or max(values) <= 0:
        return 1.0
    if max(values) == min(values):
        return 0.0
    return float(ttest_1samp(values, 0.0, alternative="greater").pvalue)


def e_value(lost: int, won: int) -> float:
    """Evidence that more are lost than won: the capital of a bettor who began with 1 and bets on
    that at even odds, spread evenly over all loss rates above a half.

    If no more are lost than won, it ever reaches x with a probability of at most 1/x, so it may be
    checked after every case (Ville's inequality). 2^(n+1) times the integral of p^lost (1-p)^won
    over p from 1/2 to 1.

    >>> e_value(0, 0), round(e_value(2, 0), 3), e_value(20, 2) > 100, e_value(60, 50) < 10
    (1.0, 2.333, True, True)
    """
    a, b = lost + 1.0, won + 1.0
    upper = float(betainc(b, a, 0.5))  # The mass of Beta(a, b) above a half.
    if upper == 0.0:
        return 0.0
    return math.exp((a + b - 1) * math.log(2) + float(betaln(a, b)) + math.log(upper))
