"""Probabilities of counts by chance, without scipy, whose import takes a server half a second."""

from math import exp, lgamma, log

NEGLIGIBLE = 1e-12
"""Terms smaller than this share of a sum are not added to it."""


def so_few(own: int, of_own: int, hits: int, count: int) -> float:
    """The probability of so few hits in a part, if all hits are spread by chance: Fisher's test.

    Args:
        own: hits in the part.
        of_own: size of the part.
        hits: hits in all.
        count: size of all.

    1 if the part does not have fewer hits than the rest, or is everything.

    >>> round(so_few(0, 4, 4, 8), 4)  # 1 in 70: all four hits are among the other four.
    0.0143
    """
    if of_own == count or own * count >= hits * of_own:
        return 1.0
    misses = count - hits
    p = exp(_log_ways(hits, own) + _log_ways(misses, of_own - own) - _log_ways(count, of_own))
    total = p
    while own > 0 and p > NEGLIGIBLE * total:
        p *= own * (misses - of_own + own) / ((hits - own + 1) * (of_own - own + 1))
        own -= 1
        total += p
    return total


def one_sided(left: int, count: int) -> float:
    """The two-sided probability that fair coins fall so unevenly.

    >>> one_sided(0, 4)
    0.125
    """
    fewer = min(left, count - left)
    p = exp(_log_ways(count, fewer) - count * log(2))
    total = p
    while fewer > 0 and p > NEGLIGIBLE * total:
        p *= fewer / (count - fewer + 1)
        fewer -= 1
        total += p
    return min(1.0, 2 * total)


def _log_ways(count: int, chosen: int) -> float:
    """The logarithm of the number of ways to choose some of so many."""
    return lgamma(count + 1) - lgamma(chosen + 1) - lgamma(count - chosen + 1)
