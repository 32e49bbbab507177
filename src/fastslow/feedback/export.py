"""Exports the store's votes as training rows, page by page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from fastslow.feedback.ledger import RETRACT, entries, is_retracted
from fastslow.feedback.rows import Rows
from fastslow.feedback.schema import votes

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and where the next page begins."""

    rows: list[Mapping[str, Any]]
    cursor: int
    """Pass it as `after` for the rows that follow."""
    more: bool


def export_page(
    connection: Connection, *, after: int = 0, limit: int = PAGE, pending: bool = False
) -> Page:
    """Ledger rows after a cursor, as they are learned, without those taken back since.

    With `pending` the last page ends with votes still in their grace period. They are not in the
    ledger yet and come again when they are.
    """
    page = list(entries(connection, after=after, limit=limit))
    gone = is_retracted(connection, [entry.vote_id for entry in page])
    rows: list[Mapping[str, Any]] = [
        {**(entry.row or {}), "seq": entry.seq, "held_out": entry.holdout}
        for entry in page
        if entry.kind != RETRACT and entry.vote_id not in gone
    ]
    more = len(page) == limit
    if pending and not more:
        rows += _pending(connection)
    return Page(rows, page[-1].seq if page else after, more)


def _pending(connection: Connection) -> list[Mapping[str, Any]]:
    waiting = connection.execute(
        select(votes)
        .where(votes.c.admitted_at.is_(None), votes.c.retracted_at.is_(None))
        .order_by(votes.c.id)
    ).all()
    rows = Rows(connection, waiting)
    return [rows.row_of(vote) for vote in waiting if rows.nothing_to_learn(vote) is None]
