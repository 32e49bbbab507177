"""Consolidations: one student of what answers in every domain, which is an update of each of them.

Each of its updates begins, like all, at what its domain serves: that is the teacher there. What it
shows of its domain to the student are rows that it has learned, as replayed ones. So the student's
updates pass gates, answer, and are undone and forgotten like others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from fastslow.feedback.locks import lock_chains
from fastslow.feedback.people import note
from fastslow.feedback.planning import check_learner, enter, has_learned, on_the_way
from fastslow.feedback.refusals import Fenced, Malformed
from fastslow.feedback.schema import consolidations, insert_row, updates
from fastslow.feedback.updates import UNDECIDED, Route, Update, all_routes

FEWEST = 2
"""Domains in which an update must answer."""


@dataclass(frozen=True, slots=True)
class Consolidation:
    """A student that was asked for."""

    id: int
    at: float
    by: int | None
    state: str
    """`wanted`, or `planned`: its updates say what has become of it."""
    why: str | None
    """Why it is not planned yet, where it cannot be."""


def ask(connection: Connection, *, now: float, by: int | None) -> Consolidation:
    """Want a student of what answers in all domains; the learner makes it when it comes to it.

    Raises Malformed where fewer than two domains have an update that answers, and while another
    student is on its way.
    """
    lock_chains(connection)
    if (other := _on_its_way(connection)) is not None:
        raise Malformed(f"consolidation {other} is on its way; ask again when it is decided")
    if len(found := taught_in(connection)) < FEWEST:
        there = ", ".join(one.domain for one in found) or "none"
        raise Malformed(
            f"a student needs {FEWEST} domains or more in which an update answers; there is {there}"
        )
    number = insert_row(connection, consolidations, {"at": now, "by": by, "state": "wanted"})
    note(connection, by, "consolidate", {"consolidation": number}, now=now)
    return _of(connection, number)


def asked_for(connection: Connection, *, limit: int) -> list[Consolidation]:
    """Consolidations, the newest first."""
    query = select(consolidations).order_by(consolidations.c.id.desc()).limit(limit)
    return [Consolidation(**row._mapping) for row in connection.execute(query)]


def wanted(connection: Connection) -> Consolidation | None:
    """The one that is to be planned."""
    query = select(consolidations.c.id).where(consolidations.c.state == "wanted")
    number = connection.scalar(query.order_by(consolidations.c.id))
    return None if number is None else _of(connection, number)


def taught_in(connection: Connection) -> list[Route]:
    """The routes of domains in which an update answers, which can teach."""
    return [one for one in all_routes(connection) if one.update_id is not None]


def hindrance(connection: Connection) -> str | None:
    """Why no student can be planned now, if none can."""
    found = taught_in(connection)
    if len(found) < FEWEST:
        return f"fewer than {FEWEST} domains have an update that answers"
    for route in found:
        if (number := on_the_way(connection, route.domain)) is not None:
            return f"update {number} of {route.domain} is not decided yet"
        if not has_learned(connection, route.domain):
            return f"all that {route.domain} has learned was taken back; there is nothing to show"
    return None


def put_off(connection: Connection, *, learner: int, number: int, why: str) -> None:
    """Say why a consolidation cannot be planned yet."""
    check_learner(connection, learner)
    _set(connection, number, why=why)


def plan(
    connection: Connection,
    *,
    learner: int,
    number: int,
    shown: Mapping[str, Sequence[int]],
    now: float,
) -> list[Update]:
    """Plan the updates of a wanted consolidation, one of every domain that teaches.

    Args:
        shown: by domain, numbers of rows that it has learned, on which it teaches.

    Raises Fenced where it is not wanted any more, or what answers in a domain has not learned
    these rows, as it is another or they were taken back.
    """
    check_learner(connection, learner)
    found = taught_in(connection)
    showing = {domain for domain, rows in shown.items() if rows}
    if hindrance(connection) or {one.domain for one in found} != showing:
        raise Fenced("what answers has changed meanwhile; plan again")
    by = _of(connection, number).by
    if not _set(connection, number, state="planned", why=None):
        raise Fenced(f"consolidation {number} is planned already")
    facts = {"at": now, "decided_by": by, "consolidation_id": number}
    return [enter(connection, one, (), shown[one.domain], **facts) for one in found]


def updates_of(connection: Connection, number: int) -> list[Update]:
    """The updates of a consolidation, one of each domain, in the order of their plan."""
    query = select(updates).where(updates.c.consolidation_id == number).order_by(updates.c.id)
    return [Update(**row._mapping) for row in connection.execute(query)]


def unfinished(connection: Connection) -> set[int]:
    """Consolidations of which updates are not decided by their gates."""
    query = select(updates.c.consolidation_id).where(updates.c.state.in_(UNDECIDED))
    return {number for number in connection.scalars(query) if number is not None}


def _on_its_way(connection: Connection) -> int | None:
    found = wanted(connection)
    return found.id if found is not None else max(unfinished(connection), default=None)


def _of(connection: Connection, number: int) -> Consolidation:
    query = select(consolidations).where(consolidations.c.id == number)
    return Consolidation(**connection.execute(query).one()._mapping)


def _set(connection: Connection, number: int, **values: Any) -> bool:
    """Change one that is wanted; False where it is not."""
    still = consolidations.c.id == number, consolidations.c.state == "wanted"
    return bool(connection.execute(update(consolidations).where(*still).values(values)).rowcount)
