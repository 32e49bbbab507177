"""Phrases that some put into answers and nobody else does.

The answers that people compare are the policy's own and fall to them by chance, so that whatever
their taste, what they prefer says the same things about as often. Somebody whose every second vote
is for the same phrase, which others hardly ever vote for, has written it: by edits, as a few who
want something said would. So may somebody with a good reason: such rows wait until an admin has
looked at them. The same is asked of all edits together, and of all that is asked with a phrase that
only a few write.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastslow.feedback.ledger import Entry
from fastslow.live.frequent import Frequent
from fastslow.live.gate.answers import LONGEST_PHRASE
from fastslow.live.gate.statistics import more_often_by_chance
from fastslow.live.groups import TOGETHER, Who, groups_of, name_of
from fastslow.live.triggers import triggers
from fastslow.words import phrases_of, words_of

EDIT = "edit"
EDITORS = TOGETHER
"""All who edit, together."""
FEWEST = 5
"""Votes of somebody for a phrase from which on they are compared with the others."""
OWN_SHARE = 0.5
"""Least share of their votes that are for it."""
OF_OTHERS = 0.5
"""Largest share of the others' votes, times their own."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A phrase, and who puts it in."""

    who: Who
    phrase: str
    own: int
    """Votes for it."""
    of_own: int
    others: int
    of_others: int

    def has(self, entry: Entry) -> bool:
        """Whether a row is one of these votes."""
        theirs = self.who in groups_of(entry, EDIT, [self.who])
        return theirs and self.phrase in voted_for(entry.row or {})

    def __str__(self) -> str:
        return (
            f"{self.phrase!r} is put into {self.own} of {self.of_own} answers by "
            f"{name_of(self.who, EDIT)}, into {self.others} of {self.of_others} by all others"
        )


def voted_for(row: Mapping[str, Any]) -> set[str]:
    """Phrases of a few words that are in the answer that somebody preferred, and not in the
    other."""
    if "chosen" not in row or "verdict" in row:
        return set()
    better, worse = (
        phrases_of(words_of(row[key][-1]["content"]), LONGEST_PHRASE)
        for key in ("chosen", "rejected")
    )
    return better - worse


def suspects(entries: Iterable[Entry], *, p: float) -> list[Suspect]:
    """What is put into answers by somebody, or by those who edit, and by chance so often with a
    probability below `p` if they were like the others; the clearest first, one for each of them."""
    if not p:
        return []
    entries = list(entries)
    said: dict[Who, Counter[str]] = defaultdict(Counter)
    votes, rare = Counter[Who](), triggers(entries)
    everything, count = Counter[str](), 0
    frequent = Frequent((voted_for(one.row) for one in entries if one.row is not None), FEWEST)
    for entry in entries:
        if entry.row is None or not (phrases := voted_for(entry.row)):
            continue
        phrases = frequent.of(phrases)
        everything.update(phrases)
        count += 1
        for who in groups_of(entry, EDIT, rare):
            said[who].update(phrases)
            votes[who] += 1
    found = [
        one
        for who, own in said.items()
        if (one := _clearest(who, own, votes[who], everything, count, p)) is not None
    ]
    return sorted(found, key=lambda one: -one.own)


def _clearest(
    who: Who,
    own: Counter[str],
    of_own: int,
    everything: Counter[str],
    count: int,
    p: float,
) -> Suspect | None:
    best, chance = None, p
    # The shortest of those that are as clear: sets are in another order in every process.
    for phrase, number in sorted(own.items(), key=lambda one: (one[0].count(" "), one[0])):
        others, of_others = everything[phrase] - number, count - of_own
        share = number / of_own
        if number < FEWEST or share < OWN_SHARE or not of_others:
            continue
        if others / of_others > OF_OTHERS * share:
            continue
        found = more_often_by_chance(number, of_own, others, of_others)
        if found < chance:
            best, chance = Suspect(who, phrase, number, of_own, others, of_others), found
    return best
