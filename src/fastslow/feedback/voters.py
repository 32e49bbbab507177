"""Who votes, in numbers: how often somebody is right, agrees with others, or cannot have read."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select

from fastslow.feedback.rows import UNREAD
from fastslow.feedback.schema import pairs, principals, votes

RECENT = 20_000
"""Votes on pairs by which people are compared: the last ones."""


@dataclass(frozen=True, slots=True)
class Person:
    """What somebody sent, and how it compares."""

    id: int
    name: str
    role: str
    disabled: bool
    sent: int
    gold: int
    """Gold questions answered."""
    gold_right: int
    shared: int
    """Pairs on which others voted too, most of them alike."""
    agreed: int
    """Of these, with the verdict of most others."""
    median_seen_s: float | None
    """Seconds for which both answers were to be seen."""
    left: int
    """Votes for the answer on the left."""
    decided: int
    """Votes for either."""
    compared: int
    """Votes on pairs."""
    unread: int
    """Of these, sent sooner than anybody reads both answers."""


@dataclass(frozen=True, slots=True)
class RecentVotes:
    """The last verdicts on pairs, without those that were taken back or skipped."""

    cast: dict[int, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    """By person and pair."""
    seen_ms: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    unread: Counter[int] = field(default_factory=Counter)
    golden: dict[int, str] = field(default_factory=dict)
    """Right verdicts of gold questions."""

    def by_pair(self) -> dict[int, list[tuple[int, str]]]:
        """Who said what of each pair, gold questions apart; the newest pair comes first."""
        found: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for voter, own in self.cast.items():
            for pair, verdict in own.items():
                if pair not in self.golden:
                    found[pair].append((voter, verdict))
        return {pair: found[pair] for pair in sorted(found, reverse=True)}


def recent_votes(connection: Connection) -> RecentVotes:
    """The last RECENT votes on pairs."""
    found = RecentVotes()
    query = (
        select(
            votes.c.voter, votes.c.pair_id, votes.c.verdict, votes.c.seen_ms, votes.c.refused,
            pairs.c.gold_verdict,
        )
        .join(pairs, pairs.c.id == votes.c.pair_id)
        .where(votes.c.retracted_at.is_(None), votes.c.verdict != "skip")
        .order_by(votes.c.id.desc())
        .limit(RECENT)
    )  # fmt: skip
    for row in connection.execute(query):
        found.cast[row.voter][row.pair_id] = row.verdict
        if row.seen_ms is not None:
            found.seen_ms[row.voter].append(row.seen_ms)
        if row.gold_verdict is not None:
            found.golden[row.pair_id] = row.gold_verdict
        found.unread[row.voter] += (row.refused or "").startswith(UNREAD)
    return found


def people_in_numbers(connection: Connection, recent: RecentVotes) -> list[Person]:
    """Everyone, in the order in which they came, and how they compare in the recent votes."""
    shared, agreed = _agreement(recent)
    counts = (
        select(votes.c.voter, func.count())
        .where(votes.c.retracted_at.is_(None))
        .group_by(votes.c.voter)
    )
    sent: dict[int, int] = dict(connection.execute(counts).all())
    people = []
    for row in connection.execute(select(principals).order_by(principals.c.id)):
        own, times = recent.cast.get(row.id, {}), sorted(recent.seen_ms.get(row.id, ()))
        golden = recent.golden
        gold = [verdict == golden[pair] for pair, verdict in own.items() if pair in golden]
        sides = Counter(own.values())
        people.append(
            Person(
                row.id, row.name, row.role, row.disabled, sent.get(row.id, 0),
                len(gold), sum(gold), shared[row.id], agreed[row.id],
                times[len(times) // 2] / 1000 if times else None,
                sides["a"], sides["a"] + sides["b"], len(own), recent.unread[row.id],
            )
        )  # fmt: skip
    return people


def _agreement(recent: RecentVotes) -> tuple[Counter[int], Counter[int]]:
    """On how many pairs others voted like each other, and on how many of them like somebody."""
    shared: Counter[int] = Counter()
    agreed: Counter[int] = Counter()
    for given in recent.by_pair().values():
        said = Counter(verdict for _, verdict in given)
        for voter, verdict in given:
            first, *more = (said - Counter([verdict])).most_common(2) or [("", 0)]
            if first[1] and not (more and more[0][1] == first[1]):
                shared[voter] += 1
                agreed[voter] += first[0] == verdict
    return shared, agreed
