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
    """Rows of somebody in a domain that wait."""

    domain: str
    voter: int
    rows: int
    """Of those that the learner has looked at."""
    said: str
    """Why, in words, with the numbers."""


@dataclass(frozen=True, slots=True)
class Waiting(HeldBack):
    """The same, as it is shown."""

    name: str
    """Of who sent them."""


def hold(
    connection: Connection, *, learner: int, domain: str, found: Sequence[HeldBack], now: float
) -> None:
    """Say what is held back in a domain, in the place of what was. Raises Fenced."""
    check_learner(connection, learner)
    connection.execute(delete(held_back).where(held_back.c.domain == domain))
    rows = [
        {"domain": domain, "voter": one.voter, "rows": one.rows, "said": one.said, "at": now}
        for one in found
    ]
    if rows:
        connection.execute(insert(held_back), rows)


def held_in(connection: Connection, domain: str) -> list[HeldBack]:
    """What is held back in a domain, by person."""
    return [HeldBack(one.domain, one.voter, one.rows, one.said) for one in _all(connection, domain)]


def all_held(connection: Connection) -> list[Waiting]:
    """What is held back, by domain and person."""
    return [
        Waiting(one.domain, one.voter, one.rows, one.said, one.name) for one in _all(connection)
    ]


def let_through(connection: Connection, *, principal_id: int, now: float, by: int | None) -> int:
    """Learn what somebody has sent until now, whatever is in it; how many rows were held back.

    What they send later may be held back again. Raises UnknownItem.
    """
    own = principals.c.id == principal_id
    if not connection.execute(update(principals).where(own).values(let_through_at=now)).rowcount:
        raise UnknownItem(f"there is no person {principal_id}")
    of_theirs = held_back.c.voter == principal_id
    rows = int(connection.scalar(select(func.sum(held_back.c.rows)).where(of_theirs)) or 0)
    connection.execute(delete(held_back).where(of_theirs))
    note(connection, by, "let_through", {"principal": principal_id, "rows": rows}, now=now)
    return rows


def let_through_until(connection: Connection) -> dict[int, float]:
    """Of everybody whose rows were let through, until when, Unix seconds."""
    query = select(principals.c.id, principals.c.let_through_at)
    found = connection.execute(query.where(principals.c.let_through_at.is_not(None)))
    return {number: at for number, at in found}


def _all(connection: Connection, domain: str | None = None) -> Sequence[Any]:
    query = (
        select(held_back, principals.c.name)
        .join(principals, principals.c.id == held_back.c.voter)
        .order_by(held_back.c.domain, held_back.c.voter)
    )
    if domain is not None:
        query = query.where(held_back.c.domain == domain)
    return connection.execute(query).all()
