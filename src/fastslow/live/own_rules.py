"""Finds people who rate or vote by a rule of their own, almost without exception.

People who want a policy to say something need not write it: they rate up whatever says it, and down
what does not. Words show that. Each of a person's rows is predicted from the others: a word is
weighted by how much more often it appears in what they prefer than in what they reject, and the
weights predict what the left-out row prefers (naive Bayes). For people whose taste is known from
comparisons, two of three rows are predicted right. For somebody who follows a list of words nearly
all are, while the same weights predict little of what others prefer. A strong personal taste may
look the same, so such rows wait until an admin has looked at them. Edits are left to `suspects`, as
all edits correct the same things.
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
"""All raters as one group."""
FEWEST = 16
"""Fewest rows of a person to test, and of others to compare with."""
OF_EACH = 5
"""Fewest ratings up, and fewest down, for ratings to be used."""
WITHOUT_FAIL = 0.85
"""Smallest share of a person's rows that their own rule predicts right."""
OF_OTHERS = 0.5
"""How far above a half the share for others' rows may be, as a fraction of how far theirs is."""
CLEAR = 0.5
"""Smallest absolute score of a clear row, as a fraction of the median one. Other rows are not
counted."""
SHOWN = 5
"""Words of a rule that are listed."""
NOTHING = frozenset[str]()


@dataclass(frozen=True, slots=True)
class OwnRule:
    """Answers that a person or group prefers, as predicted from words."""

    who: Who
    words: tuple[str, ...]
    """The words with the largest weights."""
    own: int
    """Their rows that are predicted right, each from the rest, ..."""
    of_own: int
    """... of those that are clear."""
    others: int
    of_others: int

    def has(self, entry: Entry) -> bool:
        """True if the row belongs to this person or group."""
        return entry.kind != EDIT and self.who in groups_of(entry, RATING, [self.who])

    def __str__(self) -> str:
        words = ", ".join(repr(word) for word in self.words)
        return (
            f"words predict {self.own} of {self.of_own} {name_of(self.who, RATING)} (mostly "
            f"{words}), but only {self.others} of {self.of_others} others"
        )


def own_rules(entries: Iterable[Entry], *, p: float) -> list[OwnRule]:
    """The rules of people and groups whose rows are predicted so much better than others' that
    chance has a probability below `p`; those with most rows first."""
    rows = [entry for entry in entries if entry.row is not None and entry.kind != EDIT] if p else []
    sides = {entry.seq: words for entry in rows if any(words := _words_by_side(entry.row or {}))}
    by_group, rare = defaultdict[Who, set[int]](set), triggers(rows)
    for entry in rows:
        for who in groups_of(entry, RATING, rare) if entry.seq in sides else ():
            by_group[who].add(entry.seq)
    # Groups with the same rows are tested once: one person may be the only rater.
    groups = {
        frozenset(seqs): who for who, seqs in reversed(by_group.items()) if len(seqs) >= FEWEST
    }
    rules = [_rule(who, seqs, sides, p) for seqs, who in groups.items()]
    return sorted((rule for rule in rules if rule), key=lambda rule: -rule.of_own)


def _rule(who: Who, own: Set[int], sides: Mapping[int, "Sides"], p: float) -> OwnRule | None:
    counts = _WordCounts([sides[seq] for seq in sorted(own)])
    if len(counts.rows) < FEWEST:
        return None
    scores = [counts.score(*row, without=row) for row in counts.rows]
    clear = CLEAR * median(map(abs, scores))
    kinds = defaultdict[tuple[bool, bool], list[bool]](list)
    for score, (better, worse) in zip(scores, counts.rows, strict=True):
        if abs(score) >= clear:
            kinds[bool(better), bool(worse)].append(score > 0)
    # Each kind of row counts equally, so that a few ratings down weigh as much as many up.
    share = fmean(sum(kind) / len(kind) for kind in kinds.values())
    if share < WITHOUT_FAIL:
        return None
    hits = [hit for kind in kinds.values() for hit in kind]
    weights = {word: counts.weight(word) for word in {*counts.preferred, *counts.rejected}}
    other_hits = [
        score > 0
        for seq, (better, worse) in sides.items()
        if seq not in own and abs(score := _mean(weights, better) - _mean(weights, worse)) >= clear
    ]
    if len(other_hits) < FEWEST:
        return None
    tally = sum(hits), len(hits), sum(other_hits), len(other_hits)
    if tally[2] / tally[3] - 0.5 > OF_OTHERS * (share - 0.5) or more_often_by_chance(*tally) >= p:
        return None
    words = sorted(weights, key=lambda word: (-abs(weights[word]), word))[:SHOWN]
    return OwnRule(who, tuple(words), *tally)


Sides = tuple[Set[str], Set[str]]
"""Words only in the preferred answer, and words only in the rejected one."""


class _WordCounts:
    """How often each word is in answers that somebody preferred, and in those they rejected."""

    def __init__(self, rows: Sequence[Sides]) -> None:
        self.rows = _usable(rows)
        self.preferred, self.rejected = Counter[str](), Counter[str]()
        for better, worse in self.rows:
            self.preferred.update(better)
            self.rejected.update(worse)
        self._num_preferred = sum(bool(better) for better, _ in self.rows)
        self._num_rejected = sum(bool(worse) for _, worse in self.rows)

    def weight(self, word: str, without: Sides = (NOTHING, NOTHING)) -> float:
        """Log ratio (nats) of the word's frequency in preferred answers to that in rejected ones,
        from all rows but one."""
        better, worse = without
        preferred = self.preferred[word] - (word in better), self._num_preferred - bool(better)
        rejected = self.rejected[word] - (word in worse), self._num_rejected - bool(worse)
        return _log_share(*preferred) - _log_share(*rejected)

    def score(self, better: Set[str], worse: Set[str], *, without: Sides) -> float:
        """Above 0 if the rule predicts the row's preference."""
        weights = {word: self.weight(word, without) for word in {*better, *worse}}
        return _mean(weights, better) - _mean(weights, worse)


def _mean(weights: Mapping[str, float], words: Set[str]) -> float:
    """Mean weight of the words. A sum would give a rule to everybody who likes long answers."""
    return sum(weights.get(word, 0.0) for word in words) / max(1, len(words))


def _log_share(hits: int, of: int) -> float:
    return math.log((hits + 0.5) / (of + 1))


def _words_by_side(row: Mapping[str, Any]) -> Sides:
    if "verdict" in row:
        return NOTHING, NOTHING
    if "completion" in row:
        words = _words(row["completion"])
        return (words, NOTHING) if row["label"] else (NOTHING, words)
    better, worse = (_words(row[key]) for key in ("chosen", "rejected"))
    return better - worse, worse - better


def _words(turns: Sequence[Mapping[str, Any]]) -> Set[str]:
    return {*words_of(str(turns[-1]["content"]))}


def _usable(rows: Sequence[Sides]) -> list[Sides]:
    """Comparisons, and ratings if there are enough up and down."""
    comparisons = [row for row in rows if row[0] and row[1]]
    up = [row for row in rows if row[0] and not row[1]]
    down = [row for row in rows if row[1] and not row[0]]
    return [*comparisons, *up, *down] if min(len(up), len(down)) >= OF_EACH else comparisons
