"""People whose votes differ from the others' by more than chance, with the numbers that say so.

Nothing here tells why: a taste of one's own, hard pairs and a slip of the mouse look like bad will.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, lgamma, log

from fastslow.feedback.voters import Person

CHANCE = 0.001
"""Of anybody being remarked on for one of the reasons while all vote alike."""
UNREAD_VOTES, UNREAD_SHARE = 5, 0.1
"""Votes, and their share of somebody's, from which it is said that they came too soon."""
NEGLIGIBLE = 1e-12
"""Terms of a sum that are smaller than this share of it are not added."""


@dataclass(frozen=True, slots=True)
class Remark:
    """What is unusual about somebody's votes."""

    person_id: int
    name: str
    said: list[str]
    """In words, with the numbers."""


def remarks(people: Sequence[Person]) -> list[Remark]:
    """Those of whom there is something to say, but for who may ask no more."""
    present = [one for one in people if not one.disabled and one.compared]
    found = (Remark(one.id, one.name, [*_said(one, people, len(present))]) for one in present)
    return [one for one in found if one.said]


def _said(one: Person, people: Sequence[Person], count: int) -> Iterator[str]:
    limit = CHANCE / count  # Among many people somebody is far off by chance.
    right, gold = sum(who.gold_right for who in people), sum(who.gold for who in people)
    if (p := so_few(one.gold_right, one.gold, right, gold)) < limit:
        yield (
            f"right on {one.gold_right} of {one.gold} gold questions, the others on "
            f"{right - one.gold_right} of {gold - one.gold}; so few by chance with p {p:.1g}"
        )
    agreed, shared = sum(who.agreed for who in people), sum(who.shared for who in people)
    if (p := so_few(one.agreed, one.shared, agreed, shared)) < limit:
        yield (
            f"voted like most others on {one.agreed} of {one.shared} pairs, the others on "
            f"{agreed - one.agreed} of {shared - one.shared}; so few by chance with p {p:.1g}"
        )
    if (p := one_sided(one.left, one.decided)) < limit:
        yield (
            f"chose the answer on the left in {one.left} of {one.decided} votes, though sides are "
            f"by chance; so one-sided by chance with p {p:.1g}"
        )
    if one.unread >= max(UNREAD_VOTES, UNREAD_SHARE * one.compared):
        yield (
            f"{one.unread} of {one.compared} votes were sent sooner than anybody reads both "
            "answers; these are not learned"
        )


def so_few(own: int, of_own: int, hits: int, count: int) -> float:
    """The probability of as few hits in a part, if all hits were spread by chance: Fisher's test.

    Args:
        own: hits in the part.
        of_own: size of the part.
        hits: in the part and all else.
        count: of all.

    1 where the part has not fewer than the rest, or is all there is.

    >>> round(so_few(0, 4, 4, 8), 4)  # 1 in 70: all four hits are among the other four.
    0.0143
    """
    if of_own == count or own * count >= hits * of_own:
        return 1.0
    misses = count - hits
    p = exp(_log_ways(hits, own) + _log_ways(misses, of_own - own) - _log_ways(count, of_own))
    found = p
    while own > 0 and p > NEGLIGIBLE * found:
        p *= own * (misses - of_own + own) / ((hits - own + 1) * (of_own - own + 1))
        own -= 1
        found += p
    return found


def one_sided(left: int, count: int) -> float:
    """The probability that as many fair coins fall on one side, either of them.

    >>> one_sided(0, 4)
    0.125
    """
    fewer = min(left, count - left)
    p = exp(_log_ways(count, fewer) - count * log(2))
    found = p
    while fewer > 0 and p > NEGLIGIBLE * found:
        p *= fewer / (count - fewer + 1)
        fewer -= 1
        found += p
    return min(1.0, 2 * found)


def _log_ways(count: int, chosen: int) -> float:
    """The logarithm of the number of ways to choose some of so many."""
    return lgamma(count + 1) - lgamma(chosen + 1) - lgamma(count - chosen + 1)
