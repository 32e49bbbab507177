"""What tells that something in a store has changed, found at once however much is kept."""

from typing import Any

from sqlalchemy import Connection, Select, func, select

from fastslow.feedback.schema import (
    audit,
    consolidations,
    held_back,
    ledger,
    pairs,
    updates,
    votes,
)

NEWEST = 64
"""Votes that may have been taken back in their grace, and updates whose states are looked at."""


def _last(column: Any) -> Any:
    return select(func.max(column)).scalar_subquery()


def _numbers() -> Select[Any]:
    newest = select(votes.c.retracted_at).order_by(votes.c.id.desc()).limit(NEWEST).subquery()
    return select(
        _last(votes.c.id),
        select(func.count(newest.c.retracted_at)).scalar_subquery(),
        _last(ledger.c.seq),
        _last(pairs.c.id),
        _last(held_back.c.at),
        _last(audit.c.id),
    )


# Made once, as making them takes longer than SQLite takes to answer.
NUMBERS = _numbers()
STATES = (
    select(updates.c.id, updates.c.state, updates.c.checkpoint.is_(None))
    .order_by(updates.c.id.desc())
    .limit(NEWEST)
)
STUDENT = (
    select(consolidations.c.id, consolidations.c.state, consolidations.c.why)
    .order_by(consolidations.c.id.desc())
    .limit(1)
)


def marks(connection: Connection) -> dict[str, Any]:
    """A value of `votes`, `updates` and `people`: another one once something of them has changed.

    A vote that is taken back in its grace after NEWEST others came is noticed with the next change.
    """
    *of_votes, decisions = connection.execute(NUMBERS).one()
    states = [tuple(row) for query in (STATES, STUDENT) for row in connection.execute(query)]
    return {"votes": of_votes, "updates": states, "people": decisions}
