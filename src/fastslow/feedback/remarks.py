"""Remarks on people whose votes differ from others' by more than chance, with the numbers.

Nothing here says why: a taste of one's own, hard pairs and a slip of the mouse look like bad will.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastslow.feedback.chance import one_sided, so_few
from fastslow.feedback.gold import CHANCE, Unreliable, unreliable
from fastslow.feedback.voters import Person

UNREAD_VOTES, UNREAD_SHARE = 5, 0.1
"""Number and share of a person's votes that came too soon, from which a remark is made."""


@dataclass(frozen=True, slots=True)
class Remark:
    """What is unusual about somebody's votes."""

    person_id: int
    name: str
    said: list[str]
    """The remarks in words, with the numbers."""


def remarks(people: Sequence[Person]) -> list[Remark]:
    """Remarks on those for whom there are any, except disabled people."""
    present = [person for person in people if not person.disabled and person.compared]
    gold = {person.id: (person.gold_right, person.gold) for person in people}
    by_gold = {result.who: result for result in unreliable(gold)}
    all_remarks = (
        Remark(
            person.id,
            person.name,
            [*_remarks_on(person, people, len(present), by_gold.get(person.id))],
        )
        for person in present
    )
    return [remark for remark in all_remarks if remark.said]


def _remarks_on(
    person: Person, people: Sequence[Person], count: int, by_gold: Unreliable | None
) -> Iterator[str]:
    limit = CHANCE / count  # Among many people, somebody is far off by chance.
    if by_gold is not None:
        yield str(by_gold)
    agreed, shared = sum(who.agreed for who in people), sum(who.shared for who in people)
    if (p := so_few(person.agreed, person.shared, agreed, shared)) < limit:
        yield (
            f"agreed with most others on {person.agreed} of {person.shared} pairs, others on "
            f"{agreed - person.agreed} of {shared - person.shared} (p = {p:.1g})"
        )
    if (p := one_sided(person.left, person.decided)) < limit:
        yield (
            f"chose the left answer in {person.left} of {person.decided} votes, though sides are "
            f"random (p = {p:.1g})"
        )
    if person.unread >= max(UNREAD_VOTES, UNREAD_SHARE * person.compared):
        yield (
            f"{person.unread} of {person.compared} votes were sent too soon to have read both "
            "answers; these are not learned"
        )
