"""Statistics of a store: how much it holds, and how well people agree."""

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from fastslow.feedback.disputes import Disagreement, disagreement
from fastslow.feedback.holding import Waiting, all_held
from fastslow.feedback.items import open_pairs
from fastslow.feedback.ledger import last_seq
from fastslow.feedback.remarks import Remark, remarks
from fastslow.feedback.schema import answers, ledger, prompts, votes
from fastslow.feedback.voters import Person, people_in_numbers, recent_votes

HOUR = 3600.0
HOURS = 24


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of what a store holds."""

    prompts: int
    answers: int
    open_pairs: int
    sent: dict[str, int]
    """By verdict, without retracted ones."""
    waiting: int
    refused: int
    retracted: int
    rows: int
    """Rows of the ledger."""
    held_out: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """All numbers."""

    counts: Counts
    hourly: list[int]
    """Votes sent in each of the last HOURS hours, newest last."""
    people: list[Person]
    """How they compare in recent votes."""
    disagreement: Disagreement
    remarks: list[Remark]
    """People whose votes are unusual."""
    held_back: list[Waiting]
    """People whose rows wait until an admin has looked at them."""


def statistics(connection: Connection, *, now: float) -> Statistics:
    """How much was sent, when, and how well people agree. Reads the whole store."""
    recent = recent_votes(connection)
    people = people_in_numbers(connection, recent)
    return Statistics(
        counts(connection), _hourly(connection, now), people, disagreement(connection, recent),
        remarks(people), all_held(connection),
    )  # fmt: skip


def counts(connection: Connection) -> Counts:
    """Counts of what a store holds."""
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
    by_hour = Counter(
        min(HOURS - 1, int((at - first) // HOUR))
        for at in connection.scalars(select(votes.c.at).where(votes.c.at >= first))
    )
    return [by_hour[hour] for hour in range(HOURS)]
