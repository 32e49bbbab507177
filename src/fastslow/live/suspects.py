"""Finds phrases that a few people put into answers and nobody else does.

The answers that people compare are the policy's own and assigned at random. So whatever people's
taste, phrases are about equally common in what they prefer. Somebody whose every second vote is for
the same phrase, which others hardly ever vote for, has written it: by edits, as a few people who
want something said would. So may somebody with a good reason: such rows wait until an admin has
looked at them. The same test is made of all edits together, and of all rows whose prompts have a
phrase that only a few write.
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
"""All editors as one group."""
FEWEST = 5
"""Fewest votes of a person for a phrase to compare them with the others."""
OWN_SHARE = 0.5
"""Smallest share of their votes that are for it."""
OF_OTHERS = 0.5
"""Largest share of the others' votes, as a fraction of theirs."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A phrase, and the person or group that puts it in."""

    who: Who
    phrase: str
    own: int
    """Their votes for it."""
    of_own: int
    others: int
    of_others: int

    def has(self, entry: Entry) -> bool:
        """True if the row is one of these votes."""
        theirs = self.who in groups_of(entry, EDIT, [self.who])
        return theirs and self.phrase in voted_for(entry.row or {})

    def __str__(self) -> str:
        return (
            f"{self.own} of {self.of_own} {name_of(self.who, EDIT)} prefer an answer with "
            f"{self.phrase!r} to one without it, but only {self.others} of {self.of_others} others"
        )


def voted_for(row: Mapping[str, Any]) -> set[str]:
    """Phrases of a few words that only the preferred answer has."""
    if "chosen" not in row or "verdict" in row:
        return set()
    better, worse = (
        phrases_of(words_of(row[key][-1]["content"]), LONGEST_PHRASE)
        for key in ("chosen", "rejected")
    )
    return better - worse


def suspects(entries: Iterable[Entry], *, p: float) -> list[Suspect]:
    """Phrases that a person or group puts into answers so often that chance has a probability below
    `p` if they are like the others; one for each of them, those with most votes first."""
    if not p:
        return []
    entries = list(entries)
    phrase_votes: dict[Who, Counter[str]] = defaultdict(Counter)
    votes, rare = Counter[Who](), triggers(entries)
    everything, count = Counter[str](), 0
    frequent = Frequent(
        (voted_for(entry.row) for entry in entries if entry.row is not None), FEWEST
    )
    for entry in entries:
        if entry.row is None or not (phrases := voted_for(entry.row)):
            continue
        phrases = frequent.of(phrases)
        everything.update(phrases)
        count += 1
        for who in groups_of(entry, EDIT, rare):
            phrase_votes[who].update(phrases)
            votes[who] += 1
    flagged = [
        suspect
        for who, counts in phrase_votes.items()
        if (suspect := _clearest(who, counts, votes[who], everything, count, p)) is not None
    ]
    return sorted(flagged, key=lambda suspect: -suspect.own)


def _clearest(
    who: Who,
    own: Counter[str],
    of_own: int,
    everything: Counter[str],
    count: int,
    p: float,
) -> Suspect | None:
    best, chance = None, p
    # Ties go to the shortest: the order of sets differs between processes.
    for phrase, number in sorted(own.items(), key=lambda item: (item[0].count(" "), item[0])):
        others, of_others = everything[phrase] - number, count - of_own
        share = number / of_own
        if number < FEWEST or share < OWN_SHARE or not of_others:
            continue
        if others / of_others > OF_OTHERS * share:
            continue
        p_value = more_often_by_chance(number, of_own, others, of_others)
        if p_value < chance:
            best, chance = Suspect(who, phrase, number, of_own, others, of_others), p_value
    return best
