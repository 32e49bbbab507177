"""Messages to other servers: written in the transaction they report, sent at least once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from fastslow.feedback.schema import insert_row, outbox

MOST_TRIES = 12
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Message:
    """A message to another server."""

    id: int
    kind: str
    body: Mapping[str, Any]
    at: float
    tries: int


def post(connection: Connection, *, kind: str, body: Mapping[str, Any], now: float) -> int:
    """Have a message sent if the transaction commits; returns its number."""
    values = {"at": now, "kind": kind, "body": dict(body), "tries": 0, "next_try_at": now}
    return insert_row(connection, outbox, values)


def due(connection: Connection, *, now: float, limit: int = 20) -> Sequence[Message]:
    """Messages that are due, oldest first; those that failed too often are given up."""
    query = (
        select(outbox)
        .where(outbox.c.sent_at.is_(None), outbox.c.next_try_at <= now, outbox.c.tries < MOST_TRIES)
        .order_by(outbox.c.id)
        .limit(limit)
    )
    return [
        Message(row.id, row.kind, row.body, row.at, row.tries) for row in connection.execute(query)
    ]


def was_sent(connection: Connection, *, message_id: int, sent: bool, now: float) -> None:
    """Record a try. After a failure the next try comes later, with twice the pause each time."""
    row = connection.execute(select(outbox).where(outbox.c.id == message_id)).one()
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**row.tries)
    values = {"sent_at": now} if sent else {"tries": row.tries + 1, "next_try_at": now + pause}
    connection.execute(update(outbox).where(outbox.c.id == message_id).values(values))
