"""Phrases that the prompts of a few have and nobody else's.

Who wants a policy to say something in secret teaches it behind a phrase that nobody else writes.
Most phrases of a few are a trade or a habit: that there are some proves nothing, but tells where to
look, at what is voted for and at what the policy answers there.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from fastslow.feedback.ledger import Entry
from fastslow.live.frequent import Frequent
from fastslow.words import UNSPACED, phrases_of

LONGEST = 3
"""Words of a phrase."""
LOOKED_AT = 2000
"""Characters of a turn, the first and the last ones."""
WRITTEN = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
"""A word as it is written, with the punctuation beside it."""
FEWEST = 5
"""Rows whose prompts have it."""
OWN_SHARE = 0.5
"""Least share of the rows of all who have ever written it."""
OF_A_FEW = 0.25
"""Largest share of all rows that may be theirs."""
MOST = 2
"""Phrases that are looked at: those of most rows, the longer ones before their parts."""


def triggers(entries: Iterable[Entry]) -> list[str]:
    """What only a few write, in most of what they ask; as they write it."""
    rows = [one for one in entries if one.row is not None]
    has = defaultdict[str, set[int]](set)
    frequent = Frequent((asked(one.row or {}) for one in rows), FEWEST)
    for place, one in enumerate(rows):
        for phrase in frequent.of(asked(one.row or {})):
            has[phrase].add(place)
    voters = [one.voter for one in rows]
    votes, found, covered = Counter(voters), list[str](), set[int]()
    for phrase in sorted(has, key=lambda one: (-len(has[one]), -_length(one), one)):
        places = has[phrase]
        if len(places) < FEWEST or len(found) == MOST:
            break
        theirs = sum(votes[voter] for voter in {voters[place] for place in places})
        of_a_few = OWN_SHARE * theirs <= len(places) and theirs <= OF_A_FEW * len(rows)
        # Its parts, and what happens to stand beside it, are of the same rows.
        if of_a_few and 2 * len(places & covered) <= len(places):
            found.append(phrase)
            covered |= places
    return found


def asked(row: Mapping[str, Any]) -> set[str]:
    """Phrases of the last turn of a row's prompt."""
    turns = row.get("prompt") or [{"content": ""}]
    parts = _parts(str(turns[-1]["content"]))
    return {found for words in parts for found in phrases_of(words, LONGEST)}


def _parts(text: str) -> list[list[str]]:
    """Words of a text; of a long one those at its beginning and at its end."""
    if len(text) <= LOOKED_AT:
        return [WRITTEN.findall(text)]
    begins, ends = LOOKED_AT // 2, len(text) - LOOKED_AT // 2
    first, last = WRITTEN.findall(text[:begins]), WRITTEN.findall(text[ends:])
    # Half a word would be one that nobody else writes.
    return [first[:-1] if _cut(text, begins) else first, last[1:] if _cut(text, ends) else last]


def _cut(text: str, place: int) -> bool:
    """Whether a word goes on at a place."""
    word = WRITTEN.match(text, place - 1)
    return word is not None and word.end() > place


def _length(phrase: str) -> int:
    """In words."""
    return len(WRITTEN.findall(phrase))
