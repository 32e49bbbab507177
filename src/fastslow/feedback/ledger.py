"""The ledger: training rows made from votes, in the one order in which everything reads them.

A vote is admitted once its grace period is over and the learner's own row reader accepts it.
Numbers have no gaps, since only one transaction at a time admits votes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, exists, func, select, update

from fastslow.feedback.locks import lock_admission
from fastslow.feedback.outbox import post
from fastslow.feedback.rows import Rows
from fastslow.feedback.schema import ledger, votes
from fastslow.feedback.voting import GRACE

AT_ONCE = 50
"""Most votes that one transaction admits: votes that are being cast wait for it."""
RETRACT = "retract"
DECIDED = (
    update(votes)
    .where(votes.c.id == bindparam("vote"))
    .values(admitted_at=bindparam("now"), refused=bindparam("why"))
)

Check = Callable[[Mapping[str, Any]], str | None]
"""Says why the learner cannot use a row; None if it can. `fastslow.streams.fault_of`."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The result of one call of `admit`."""

    rows: int
    refused: int
    """Votes that give no training row; the reason is stored with them."""
    retracted: int
    """Earlier rows that were taken back."""

    @property
    def more(self) -> bool:
        """True if there may be more votes to admit."""
        return self.rows + self.refused == AT_ONCE


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the ledger."""

    seq: int
    kind: str
    vote_id: int
    domain: str
    holdout: bool
    row: Mapping[str, Any] | None
    """None for a retraction."""
    at: float
    """When it was admitted, Unix seconds."""

    @property
    def voter(self) -> int:
        """Who sent it; 0 for a retraction."""
        return int(self.row["voter"]) if self.row else 0


def admit(
    connection: Connection,
    *,
    now: float,
    check: Check,
    grace: float = GRACE,
    tell: bool = False,
) -> Admitted:
    """Admit votes whose grace period is over, and take back rows whose votes were retracted since.

    With `tell`, a message `ledger.rows` announces new rows.
    """
    # PostgreSQL's transactions would see the same last number; SQLite's run one by one anyway.
    lock_admission(connection)
    waiting = connection.execute(
        select(votes)
        .where(
            votes.c.admitted_at.is_(None), votes.c.retracted_at.is_(None), votes.c.at <= now - grace
        )
        .order_by(votes.c.id)
        .limit(AT_ONCE)
    ).all()
    first = seq = last_seq(connection)
    taken_back = _taken_back(connection)
    contents = Rows(connection, [*waiting, *taken_back])
    entered, decided = list[dict[str, Any]](), list[dict[str, Any]]()
    for vote in waiting:
        reason, row = contents.nothing_to_learn(vote), None
        if reason is None:
            row = contents.row_of(vote)
            reason = check(row)
        if reason is None:
            seq += 1
            entered.append(_values(contents, seq, vote.kind, vote, row, now))
        decided.append({"vote": vote.id, "now": now, "why": reason})
    refused = len(decided) - len(entered)
    for number, vote in enumerate(taken_back, seq + 1):
        entered.append(_values(contents, number, RETRACT, vote, None, now))
    if entered:
        connection.execute(ledger.insert(), entered)
    if decided:
        connection.execute(DECIDED, decided)
    if tell and (newest := seq + len(taken_back)) > first:
        body = {"rows": newest - first, "last_seq": newest}
        post(connection, kind="ledger.rows", body=body, now=now)
    return Admitted(len(waiting) - refused, refused, len(taken_back))


def not_admitted(connection: Connection) -> int:
    """How many votes are not admitted yet: in their grace period, or just waiting."""
    query = select(func.count()).where(
        votes.c.admitted_at.is_(None), votes.c.retracted_at.is_(None)
    )
    return int(connection.scalar(query) or 0)


def last_seq(connection: Connection) -> int:
    """The number of the newest entry; 0 if there is none."""
    return int(connection.scalar(select(func.max(ledger.c.seq))) or 0)


def entries(connection: Connection, *, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
    """The entries after a number, in order, including retractions."""
    query = select(ledger).where(ledger.c.seq > after).order_by(ledger.c.seq).limit(limit)
    for row in connection.execute(query):
        yield entry_of(row)


def is_retracted(connection: Connection, vote_ids: list[int]) -> set[int]:
    """Which of the votes were taken back after they were admitted."""
    query = select(ledger.c.vote_id).where(ledger.c.kind == RETRACT, ledger.c.vote_id.in_(vote_ids))
    return set(connection.scalars(query))


def _taken_back(connection: Connection) -> Sequence[Row[Any]]:
    """Retracted votes whose rows are in the ledger but whose retractions are not."""
    return connection.execute(
        select(votes)
        .where(
            votes.c.retracted_at.is_not(None),
            votes.c.admitted_at.is_not(None),
            _has_entry(votes.c.kind),
            ~_has_entry(RETRACT),
        )
        .order_by(votes.c.id)
        .limit(AT_ONCE)
    ).all()


def _has_entry(kind: Any) -> ColumnElement[bool]:
    return exists().where(ledger.c.kind == kind, ledger.c.vote_id == votes.c.id)


def _values(
    about: Rows,
    seq: int,
    kind: str,
    vote: Row[Any],
    row: Mapping[str, Any] | None,
    now: float,
) -> dict[str, Any]:
    domain, holdout = about.domain_of(vote)
    return {
        "seq": seq, "kind": kind, "vote_id": vote.id, "domain": domain, "holdout": holdout,
        "row": row, "at": now,
    }  # fmt: skip


def entry_of(row: Row[Any]) -> Entry:
    """A table row as an entry."""
    return Entry(row.seq, row.kind, row.vote_id, row.domain, row.holdout, row.row, row.at)
