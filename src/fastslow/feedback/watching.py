"""Reads votes on what answers now against what did before, which a server asks for at times."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from fastslow.feedback.ledger import RETRACT
from fastslow.feedback.schema import answers, ledger, pairs, update_rows, votes

WATCH = "watch"
"""Purpose of a pair with one answer of the update that answers and one of its parent."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A person's preference between the answers of two updates."""

    domain: str
    vote_id: int
    voter: int
    better: int | None
    """The update; None: the base."""
    worse: int | None


def first_watched(connection: Connection, update_id: int) -> int:
    """The update's last row number: votes on its answers come after it in the ledger."""
    query = select(func.max(update_rows.c.seq)).where(update_rows.c.update_id == update_id)
    return int(connection.scalar(query) or 0)


@dataclass(frozen=True, slots=True)
class Next:
    """Votes on two updates among the next rows of the ledger."""

    cast: list[Watched]
    """Votes for one of the answers that still stand, in order, also on held-out prompts."""
    taken_back: list[int]
    """Votes that were taken back."""
    last: int
    """The number of the last of these rows."""


def learned_from(connection: Connection, update_id: int) -> set[int]:
    """The people whose votes an update learned from."""
    query = (
        select(votes.c.voter)
        .join(ledger, ledger.c.vote_id == votes.c.id)
        .join(update_rows, update_rows.c.seq == ledger.c.seq)
        .where(update_rows.c.update_id == update_id)
        .distinct()
    )
    return set(connection.scalars(query))


def watched(connection: Connection, *, after: int, limit: int) -> Next:
    """The votes on two updates among the next rows of the ledger."""
    # In two steps: SQLite would scan the whole ledger for either kind of row.
    rows = connection.execute(
        select(ledger.c.seq, ledger.c.kind, ledger.c.domain, ledger.c.vote_id)
        .where(ledger.c.seq > after)
        .order_by(ledger.c.seq)
        .limit(limit)
    ).all()
    left, right = answers.alias("left_answer"), answers.alias("right_answer")
    query = (
        select(
            votes.c.id, votes.c.voter, votes.c.verdict,
            left.c.update_id.label("a"), right.c.update_id.label("b"),
        )
        .join(pairs, pairs.c.id == votes.c.pair_id)
        .join(left, left.c.id == pairs.c.a)
        .join(right, right.c.id == pairs.c.b)
        .where(
            votes.c.id.in_([row.vote_id for row in rows if row.kind == "vote"]),
            votes.c.verdict.in_(("a", "b")),
            votes.c.retracted_at.is_(None),
            pairs.c.purpose == WATCH,
        )
    )  # fmt: skip
    cast = {vote.id: vote for vote in connection.execute(query)} if rows else {}
    preferences = []
    for row in rows:
        vote = cast.get(row.vote_id) if row.kind == "vote" else None
        if vote is not None:
            preference = (vote.a, vote.b) if vote.verdict == "a" else (vote.b, vote.a)
            preferences.append(Watched(row.domain, vote.id, vote.voter, *preference))
    taken_back = [row.vote_id for row in rows if row.kind == RETRACT]
    return Next(preferences, taken_back, rows[-1].seq if rows else after)
