"""People whose votes differ from the others' by more than chance, with the numbers that say so.

Nothing here tells why: a taste of one's own, hard pairs and a slip of the mouse look like bad will.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastslow.feedback.chance import one_sided, so_few
from fastslow.feedback.gold import CHANCE, Unreliable, unreliable
from fastslow.feedback.voters import Person

UNREAD_VOTES, UNREAD_SHARE = 5, 0.1
"""Votes, and their share of somebody's, from which it is said that they came too soon."""


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
    by_gold = {one.who: one for one in unreliable({p.id: (p.gold_right, p.gold) for p in people})}
    found = (
        Remark(one.id, one.name, [*_said(one, people, len(present), by_gold.get(one.id))])
        for one in present
    )
    return [one for one in found if one.said]


def _said(
    one: Person, people: Sequence[Person], count: int, by_gold: Unreliable | None
) -> Iterator[str]:
    limit = CHANCE / count  # Among many people somebody is far off by chance.
    if by_gold is not None:
        yield str(by_gold)
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
