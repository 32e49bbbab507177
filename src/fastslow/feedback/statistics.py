"""What a store holds and how well people agree, in numbers."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations

from sqlalchemy import Connection, func, select

from fastslow.feedback.items import open_pairs
from fastslow.feedback.ledger import last_seq
from fastslow.feedback.schema import answers, ledger, pairs, principals, prompts, votes

HOUR = 3600.0
HOURS = 24
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
    """Pairs that somebody else voted on too."""
    agreed: int
    median_seen_s: float | None
    """Seconds for which both answers were to be seen."""
    left: int
    """Votes for the answer on the left."""
    decided: int
    """Votes for either."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much of everything there is."""

    prompts: int
    answers: int
    open_pairs: int
    sent: dict[str, int]
    """By verdict, without what was retracted."""
    waiting: int
    refused: int
    retracted: int
    rows: int
    """Of the ledger."""
    held_out: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """All numbers."""

    counts: Counts
    hourly: list[int]
    """What was sent in each of the last HOURS hours, the newest last."""
    people: list[Person]
    """How they compare in the last RECENT votes."""


def statistics(connection: Connection, *, now: float) -> Statistics:
    """How much was sent, when, and how well people agree."""
    return Statistics(counts(connection), _hourly(connection, now), _people(connection))


def counts(connection: Connection) -> Counts:
    """How much of everything there is."""
    kept = votes.c.retracted_at.is_(None)
    by_verdict = select(votes.c.verdict, func.count()).where(kept).group_by(votes.c.verdict)
    return Counts(
        prompts=_count(connection, prompts.c.id),
        answers=_count(connection, answers.c.id),
        open_pairs=open_pairs(connection),
        sent=dict(connection.execute(by_verdict).all()),
        waiting=_count(connection, votes.c.id, kept, votes.c.admitted_at.is_(None)),
        refused=_count(connection, votes.c.id, kept, votes.c.refused.is_not(None)),
        retracted=_count(connection, votes.c.id, ~kept),
        rows=last_seq(connection),
        held_out=_count(connection, ledger.c.seq, ledger.c.holdout, ledger.c.kind != "retract"),
    )


def _count(connection: Connection, column: object, *conditions: object) -> int:
    query = select(func.count(column)).where(*conditions)  # type: ignore[arg-type]
    return int(connection.scalar(query) or 0)


def _hourly(connection: Connection, now: float) -> list[int]:
    first = now - HOURS * HOUR
    found = Counter(
        min(HOURS - 1, int((at - first) // HOUR))
        for at in connection.scalars(select(votes.c.at).where(votes.c.at >= first))
    )
    return [found[hour] for hour in range(HOURS)]


def _people(connection: Connection) -> list[Person]:
    cast: dict[int, dict[int, str]] = defaultdict(dict)
    seen: dict[int, list[int]] = defaultdict(list)
    golden = {}
    query = (
        select(
            votes.c.voter, votes.c.pair_id, votes.c.verdict, votes.c.seen_ms, pairs.c.gold_verdict
        )
        .join(pairs, pairs.c.id == votes.c.pair_id)
        .where(votes.c.retracted_at.is_(None), votes.c.verdict != "skip")
        .order_by(votes.c.id.desc())
        .limit(RECENT)
    )
    for row in connection.execute(query):
        cast[row.voter][row.pair_id] = row.verdict
        if row.seen_ms is not None:
            seen[row.voter].append(row.seen_ms)
        if row.gold_verdict is not None:
            golden[row.pair_id] = row.gold_verdict
    shared, agreed = _agreement(cast, golden)
    counts = (
        select(votes.c.voter, func.count())
        .where(votes.c.retracted_at.is_(None))
        .group_by(votes.c.voter)
    )
    sent: dict[int, int] = dict(connection.execute(counts).all())
    people = []
    for row in connection.execute(select(principals).order_by(principals.c.id)):
        own, times = cast[row.id], sorted(seen[row.id])
        gold = {pair: verdict for pair, verdict in own.items() if pair in golden}
        sides = Counter(own.values())
        people.append(
            Person(
                row.id, row.name, row.role, row.disabled, sent.get(row.id, 0), len(gold),
                sum(verdict == golden[pair] for pair, verdict in gold.items()),
                shared[row.id], agreed[row.id],
                times[len(times) // 2] / 1000 if times else None,
                sides["a"], sides["a"] + sides["b"],
            )
        )  # fmt: skip
    return people


def _agreement(
    cast: dict[int, dict[int, str]], golden: dict[int, str]
) -> tuple[Counter[int], Counter[int]]:
    """How often each person voted on what another did, and how often the same way."""
    by_pair: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for voter, own in cast.items():
        for pair, verdict in own.items():
            if pair not in golden:
                by_pair[pair].append((voter, verdict))
    shared: Counter[int] = Counter()
    agreed: Counter[int] = Counter()
    for given in by_pair.values():
        for (first, one), (second, other) in combinations(given, 2):
            for voter in (first, second):
                shared[voter] += 1
                agreed[voter] += one == other
    return shared, agreed
