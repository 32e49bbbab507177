"""Finds phrases that only a few people's prompts have: possible triggers.

Somebody who wants a policy to say something in secret teaches it behind a phrase that nobody else
writes. Most such phrases come from a trade or a habit. They prove nothing, but show where to look:
at what is voted for and at what the policy answers there.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from fastslow.feedback.ledger import Entry
from fastslow.live.frequent import Frequent
from fastslow.words import UNSPACED, phrases_of

LONGEST = 3
"""Most words of a phrase."""
LOOKED_AT = 2000
"""Characters of a turn that are read, half from each end."""
WRITTEN = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
"""A word as written, with the punctuation beside it."""
FEWEST = 5
"""Fewest rows whose prompts have the phrase."""
OWN_SHARE = 0.5
"""Smallest share it must have of the rows of everybody who has ever written it."""
OF_A_FEW = 0.25
"""Largest share of all rows that these people may have."""
MOST = 2
"""Most phrases returned: those of most rows, longer ones before their parts."""


def triggers(entries: Iterable[Entry]) -> list[str]:
    """Phrases that only a few people write, in most of their prompts; as they write them."""
    rows = [entry for entry in entries if entry.row is not None]
    has = defaultdict[str, set[int]](set)
    frequent = Frequent((asked(entry.row or {}) for entry in rows), FEWEST)
    for place, entry in enumerate(rows):
        for phrase in frequent.of(asked(entry.row or {})):
            has[phrase].add(place)
    voters = [entry.voter for entry in rows]
    votes, rare, covered = Counter(voters), list[str](), set[int]()
    for phrase in sorted(has, key=lambda text: (-len(has[text]), -_length(text), text)):
        places = has[phrase]
        if len(places) < FEWEST or len(rare) == MOST:
            break
        theirs = sum(votes[voter] for voter in {voters[place] for place in places})
        of_a_few = OWN_SHARE * theirs <= len(places) and theirs <= OF_A_FEW * len(rows)
        # Its parts and adjacent words occur in the same rows.
        if of_a_few and 2 * len(places & covered) <= len(places):
            rare.append(phrase)
            covered |= places
    return rare


def asked(row: Mapping[str, Any]) -> set[str]:
    """Phrases of the last turn of a row's prompt."""
    turns = row.get("prompt") or [{"content": ""}]
    parts = _parts(str(turns[-1]["content"]))
    return {phrase for words in parts for phrase in phrases_of(words, LONGEST)}


def _parts(text: str) -> list[list[str]]:
    """Words of a text; of a long text, those at its beginning and at its end."""
    if len(text) <= LOOKED_AT:
        return [WRITTEN.findall(text)]
    begins, ends = LOOKED_AT // 2, len(text) - LOOKED_AT // 2
    first, last = WRITTEN.findall(text[:begins]), WRITTEN.findall(text[ends:])
    # A word cut in half would look like one that nobody else writes.
    return [first[:-1] if _cut(text, begins) else first, last[1:] if _cut(text, ends) else last]


def _cut(text: str, place: int) -> bool:
    """True if a word spans this position."""
    word = WRITTEN.match(text, place - 1)
    return word is not None and word.end() > place


def _length(phrase: str) -> int:
    """In words."""
    return len(WRITTEN.findall(phrase))
