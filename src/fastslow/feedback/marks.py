"""Change marks: values that show that something in a store has changed, cheap at any size."""

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
"""Newest votes whose retractions in the grace period are counted, and newest updates whose states
are read."""


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


# Built once, as building them takes longer than SQLite takes to answer.
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
    """Values for `votes`, `updates` and `people`, each of which differs once they have changed.

    A vote that is taken back in its grace period after NEWEST others came is noticed with the next
    change.
    """
    *of_votes, decisions = connection.execute(NUMBERS).one()
    states = [tuple(row) for query in (STATES, STUDENT) for row in connection.execute(query)]
    return {"votes": of_votes, "updates": states, "people": decisions}
