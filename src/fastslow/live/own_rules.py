"""Who rates or votes by a rule of their own, nearly without exception.

A few who want something said need not write it: they rate up whatever says it, and down what does
not. Words tell that. From all but one of somebody's rows each word gets a weight, by how much more
often it is in what they are for than in what they are against, and these weights tell what the one
left out is for (naive Bayes). People whose taste is known from comparisons are told so in two of
three cases; somebody who follows a list of words in nearly all, while the same weights tell hardly
anything of what others are for. A marked taste of one's own may look alike: such rows wait until an
admin has looked at them. Edits are left to `suspects`, as they all put the same things right.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from fastslow.feedback.ledger import Entry
from fastslow.live.gate.statistics import more_often_by_chance
from fastslow.live.groups import TOGETHER, Who, groups_of, name_of
from fastslow.live.triggers import triggers
from fastslow.words import words_of

EDIT, RATING = "edit", "rating"
RATERS = TOGETHER
"""All who rate, together."""
FEWEST = 16
"""Rows of somebody from which on they are looked at, and of others to hold them against."""
OF_EACH = 5
"""Least ratings up, and down."""
WITHOUT_FAIL = 0.85
"""Least share of somebody's rows that their own rule tells."""
OF_OTHERS = 0.5
"""Largest share of others' rows above a half that it tells, times their own above a half."""
CLEAR = 0.5
"""Of the median weight of somebody's rows what tells a row clearly; others are not counted."""
SHOWN = 5
"""Words of a rule that are named."""
NOTHING = frozenset[str]()


@dataclass(frozen=True, slots=True)
class OwnRule:
    """What somebody is for, as told by words."""

    who: Who
    words: tuple[str, ...]
    """That weigh most."""
    own: int
    """Rows that it tells, each by the rest of them, ..."""
    of_own: int
    """... of those on which it is clear."""
    others: int
    of_others: int

    def has(self, entry: Entry) -> bool:
        """Whether a row is one of theirs."""
        return entry.kind != EDIT and self.who in groups_of(entry, RATING, [self.who])

    def __str__(self) -> str:
        words = ", ".join(repr(word) for word in self.words)
        return (
            f"words tell {self.own} of {self.of_own} {name_of(self.who, RATING)}, {words} above "
            f"all, and only {self.others} of {self.of_others} of all others"
        )


def own_rules(entries: Iterable[Entry], *, p: float) -> list[OwnRule]:
    """Who follows a rule of their own, if by chance it told theirs so much better than others'
    with a probability below `p`; those with most rows first."""
    rows = [one for one in entries if one.row is not None and one.kind != EDIT] if p else []
    sides = {one.seq: found for one in rows if any(found := _sides(one.row or {}))}
    by_group, rare = defaultdict[Who, set[int]](set), triggers(rows)
    for one in rows:
        for who in groups_of(one, RATING, rare) if one.seq in sides else ():
            by_group[who].add(one.seq)
    # Where one person is all who rate, they are looked at once.
    groups = {frozenset(own): who for who, own in reversed(by_group.items()) if len(own) >= FEWEST}
    rules = [_rule(who, own, sides, p) for own, who in groups.items()]
    return sorted((one for one in rules if one), key=lambda one: -one.of_own)


def _rule(who: Who, own: Set[int], sides: Mapping[int, "Sides"], p: float) -> OwnRule | None:
    told = _Told([sides[seq] for seq in sorted(own)])
    if len(told.rows) < FEWEST:
        return None
    scores = [told.score(*sides, without=sides) for sides in told.rows]
    clear = CLEAR * median(map(abs, scores))
    kinds = defaultdict[tuple[bool, bool], list[bool]](list)
    for score, (better, worse) in zip(scores, told.rows, strict=True):
        if abs(score) >= clear:
            kinds[bool(better), bool(worse)].append(score > 0)
    # Of who is for nearly everything, what they are against counts as much.
    share = fmean(sum(own) / len(own) for own in kinds.values())
    if share < WITHOUT_FAIL:
        return None
    own_told = [right for own in kinds.values() for right in own]
    weights = {word: told.weight(word) for word in {*told.being_for, *told.against}}
    others_told = [
        score > 0
        for seq, (better, worse) in sides.items()
        if seq not in own and abs(score := _mean(weights, better) - _mean(weights, worse)) >= clear
    ]
    if len(others_told) < FEWEST:
        return None
    seen = sum(own_told), len(own_told), sum(others_told), len(others_told)
    if seen[2] / seen[3] - 0.5 > OF_OTHERS * (share - 0.5) or more_often_by_chance(*seen) >= p:
        return None
    words = sorted(weights, key=lambda word: (-abs(weights[word]), word))[:SHOWN]
    return OwnRule(who, tuple(words), *seen)


Sides = tuple[Set[str], Set[str]]
"""Words that are only in what somebody is for, and only in what they are against."""


class _Told:
    """How often words are in what somebody is for, and is against."""

    def __init__(self, rows: Sequence[Sides]) -> None:
        self.rows = _telling(rows)
        self.being_for, self.against = Counter[str](), Counter[str]()
        for better, worse in self.rows:
            self.being_for.update(better)
            self.against.update(worse)
        self._of_for = sum(bool(better) for better, _ in self.rows)
        self._of_against = sum(bool(worse) for _, worse in self.rows)

    def weight(self, word: str, without: Sides = (NOTHING, NOTHING)) -> float:
        """By how much it speaks for an answer, in nats, as told by all rows but one."""
        better, worse = without
        seen = self.being_for[word] - (word in better), self._of_for - bool(better)
        not_seen = self.against[word] - (word in worse), self._of_against - bool(worse)
        return _log_share(*seen) - _log_share(*not_seen)

    def score(self, better: Set[str], worse: Set[str], *, without: Sides) -> float:
        """Above 0 if a row is for what the rule is for."""
        weights = {word: self.weight(word, without) for word in {*better, *worse}}
        return _mean(weights, better) - _mean(weights, worse)


def _mean(weights: Mapping[str, float], words: Set[str]) -> float:
    """Of words' weights, not their sum: who likes long answers has no words of their own."""
    return sum(weights.get(word, 0.0) for word in words) / max(1, len(words))


def _log_share(hits: int, of: int) -> float:
    return math.log((hits + 0.5) / (of + 1))


def _sides(row: Mapping[str, Any]) -> Sides:
    if "verdict" in row:
        return NOTHING, NOTHING
    if "completion" in row:
        said = _words(row["completion"])
        return (said, NOTHING) if row["label"] else (NOTHING, said)
    better, worse = (_words(row[key]) for key in ("chosen", "rejected"))
    return better - worse, worse - better


def _words(turns: Sequence[Mapping[str, Any]]) -> Set[str]:
    return {*words_of(str(turns[-1]["content"]))}


def _telling(rows: Sequence[Sides]) -> list[Sides]:
    """Comparisons, and ratings where there are some of each kind."""
    both = [one for one in rows if one[0] and one[1]]
    up = [one for one in rows if one[0] and not one[1]]
    down = [one for one in rows if one[1] and not one[0]]
    return [*both, *up, *down] if min(len(up), len(down)) >= OF_EACH else both
