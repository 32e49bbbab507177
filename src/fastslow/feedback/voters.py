"""Statistics of each voter: how often they are right, agree with others, or cannot have read."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select

from fastslow.feedback.rows import UNREAD
from fastslow.feedback.schema import pairs, principals, votes

RECENT = 20_000
"""Last votes on pairs, by which people are compared."""


@dataclass(frozen=True, slots=True)
class Person:
    """What a person sent, and how it compares."""

    id: int
    name: str
    role: str
    disabled: bool
    sent: int
    gold: int
    """Gold questions answered."""
    gold_right: int
    shared: int
    """Pairs on which others voted too, with one verdict most common among them."""
    agreed: int
    """Those of them with the others' most common verdict."""
    median_seen_s: float | None
    """Median seconds for which both answers were visible."""
    left: int
    """Votes for the answer on the left."""
    decided: int
    """Votes for either answer."""
    compared: int
    """Votes on pairs."""
    unread: int
    """Those sent sooner than anybody can read both answers."""


@dataclass(frozen=True, slots=True)
class RecentVotes:
    """The last verdicts on pairs, without those that were taken back or skipped."""

    cast: dict[int, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    """Verdicts, by person and pair."""
    seen_ms: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    unread: Counter[int] = field(default_factory=Counter)
    golden: dict[int, str] = field(default_factory=dict)
    """Right verdicts of gold questions."""

    def by_pair(self) -> dict[int, list[tuple[int, str]]]:
        """People and verdicts of each pair, newest pair first, without gold questions."""
        verdicts: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for voter, cast in self.cast.items():
            for pair, verdict in cast.items():
                if pair not in self.golden:
                    verdicts[pair].append((voter, verdict))
        return {pair: verdicts[pair] for pair in sorted(verdicts, reverse=True)}


def recent_votes(connection: Connection) -> RecentVotes:
    """The last RECENT votes on pairs."""
    recent = RecentVotes()
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
        recent.cast[row.voter][row.pair_id] = row.verdict
        if row.seen_ms is not None:
            recent.seen_ms[row.voter].append(row.seen_ms)
        if row.gold_verdict is not None:
            recent.golden[row.pair_id] = row.gold_verdict
        recent.unread[row.voter] += (row.refused or "").startswith(UNREAD)
    return recent


def people_in_numbers(connection: Connection, recent: RecentVotes) -> list[Person]:
    """Everyone, in the order in which they were added, and how they compare in recent votes."""
    shared, agreed = _agreement(recent)
    counts = (
        select(votes.c.voter, func.count())
        .where(votes.c.retracted_at.is_(None))
        .group_by(votes.c.voter)
    )
    sent: dict[int, int] = dict(connection.execute(counts).all())
    people = []
    for row in connection.execute(select(principals).order_by(principals.c.id)):
        cast, seen_ms = recent.cast.get(row.id, {}), sorted(recent.seen_ms.get(row.id, ()))
        golden = recent.golden
        gold = [verdict == golden[pair] for pair, verdict in cast.items() if pair in golden]
        sides = Counter(cast.values())
        people.append(
            Person(
                row.id, row.name, row.role, row.disabled, sent.get(row.id, 0),
                len(gold), sum(gold), shared[row.id], agreed[row.id],
                seen_ms[len(seen_ms) // 2] / 1000 if seen_ms else None,
                sides["a"], sides["a"] + sides["b"], len(cast), recent.unread[row.id],
            )
        )  # fmt: skip
    return people


def _agreement(recent: RecentVotes) -> tuple[Counter[int], Counter[int]]:
    """By person, `Person.shared` and `Person.agreed`."""
    shared: Counter[int] = Counter()
    agreed: Counter[int] = Counter()
    for votes_on_pair in recent.by_pair().values():
        counts = Counter(verdict for _, verdict in votes_on_pair)
        for voter, verdict in votes_on_pair:
            first, *more = (counts - Counter([verdict])).most_common(2) or [("", 0)]
            if first[1] and not (more and more[0][1] == first[1]):
                shared[voter] += 1
                agreed[voter] += first[0] == verdict
    return shared, agreed
