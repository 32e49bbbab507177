"""Rows that the learner holds back because of who sent them, until an admin lets them through."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from fastslow.feedback.people import note
from fastslow.feedback.planning import check_learner
from fastslow.feedback.refusals import UnknownItem
from fastslow.feedback.schema import held_back, principals


@dataclass(frozen=True, slots=True)
class HeldBack:
    """One person's held-back rows in a domain."""

    domain: str
    voter: int
    rows: int
    """Number of rows, among those that the learner has read."""
    said: str
    """Why, in words, with the numbers."""


@dataclass(frozen=True, slots=True)
class Waiting(HeldBack):
    """Held-back rows as they are shown to people."""

    name: str
    """Name of the person who sent them."""


def hold(
    connection: Connection, *, learner: int, domain: str, found: Sequence[HeldBack], now: float
) -> None:
    """Record what is held back in a domain, replacing what was. Raises Fenced."""
    check_learner(connection, learner)
    connection.execute(delete(held_back).where(held_back.c.domain == domain))
    rows = [
        {"domain": domain, "voter": held.voter, "rows": held.rows, "said": held.said, "at": now}
        for held in found
    ]
    if rows:
        connection.execute(insert(held_back), rows)


def held_in(connection: Connection, domain: str) -> list[HeldBack]:
    """What is held back in a domain, by person."""
    return [HeldBack(row.domain, row.voter, row.rows, row.said) for row in _all(connection, domain)]


def all_held(connection: Connection) -> list[Waiting]:
    """What is held back, by domain and person."""
    return [
        Waiting(row.domain, row.voter, row.rows, row.said, row.name) for row in _all(connection)
    ]


def let_through(connection: Connection, *, principal_id: int, now: float, by: int | None) -> int:
    """Learn what somebody has sent until now, whatever is in it; returns how many rows were held
    back.

    What they send later may be held back again. Raises UnknownItem.
    """
    person = principals.c.id == principal_id
    if not connection.execute(update(principals).where(person).values(let_through_at=now)).rowcount:
        raise UnknownItem(f"there is no person {principal_id}")
    of_theirs = held_back.c.voter == principal_id
    rows = int(connection.scalar(select(func.sum(held_back.c.rows)).where(of_theirs)) or 0)
    connection.execute(delete(held_back).where(of_theirs))
    note(connection, by, "let_through", {"principal": principal_id, "rows": rows}, now=now)
    return rows


def let_through_until(connection: Connection) -> dict[int, float]:
    """By person whose rows were let through, the time until which, Unix seconds."""
    query = select(principals.c.id, principals.c.let_through_at)
    rows = connection.execute(query.where(principals.c.let_through_at.is_not(None)))
    return {number: at for number, at in rows}


def _all(connection: Connection, domain: str | None = None) -> Sequence[Any]:
    query = (
        select(held_back, principals.c.name)
        .join(principals, principals.c.id == held_back.c.voter)
        .order_by(held_back.c.domain, held_back.c.voter)
    )
    if domain is not None:
        query = query.where(held_back.c.domain == domain)
    return connection.execute(query).all()
