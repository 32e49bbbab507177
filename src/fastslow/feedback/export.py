"""The store's votes as rows of training data, page by page."""

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
    """Give it as `after` for the rows behind these."""
    more: bool


def export_page(
    connection: Connection, *, after: int = 0, limit: int = PAGE, pending: bool = False
) -> Page:
    """Rows of the ledger behind a cursor, as they are learned, without those taken back since.

    With `pending` the last page ends with the votes that are in their grace, which have no place
    yet and come again when they have one.
    """
    found = list(entries(connection, after=after, limit=limit))
    gone = is_retracted(connection, [entry.vote_id for entry in found])
    rows: list[Mapping[str, Any]] = [
        {**(entry.row or {}), "seq": entry.seq, "held_out": entry.holdout}
        for entry in found
        if entry.kind != RETRACT and entry.vote_id not in gone
    ]
    more = len(found) == limit
    if pending and not more:
        rows += _pending(connection)
    return Page(rows, found[-1].seq if found else after, more)


def _pending(connection: Connection) -> list[Mapping[str, Any]]:
    waiting = connection.execute(
        select(votes)
        .where(votes.c.admitted_at.is_(None), votes.c.retracted_at.is_(None))
        .order_by(votes.c.id)
    ).all()
    about = Rows(connection, waiting)
    return [about.row_of(vote) for vote in waiting if about.nothing_to_learn(vote) is None]
