"""Consolidations: one student of what answers in every domain, with an update in each of them.

Like all updates, each of them starts from what its domain serves: the teacher there. The teacher
shows the student rows that it has learned, stored as replayed rows. So a student's updates pass
gates, answer, and are undone and forgotten like others.
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
"""Fewest domains in which an update must answer."""


@dataclass(frozen=True, slots=True)
class Consolidation:
    """A request for a student."""

    id: int
    at: float
    by: int | None
    state: str
    """`wanted`, or `planned`: its updates say what happened then."""
    why: str | None
    """Why it cannot be planned yet, if it cannot."""


def ask(connection: Connection, *, now: float, by: int | None) -> Consolidation:
    """Request a student of what answers in all domains; the learner teaches it later.

    Raises Malformed if fewer than two domains have an update that answers, or another student is
    on its way.
    """
    lock_chains(connection)
    if (other := _on_its_way(connection)) is not None:
        raise Malformed(f"consolidation {other} is in progress; request another once it is decided")
    if len(taught := taught_in(connection)) < FEWEST:
        names = ", ".join(route.domain for route in taught)
        raise Malformed(
            f"a student needs at least {FEWEST} domains in which an update answers; there is "
            f"{f'only {names}' if names else 'none'}"
        )
    number = insert_row(connection, consolidations, {"at": now, "by": by, "state": "wanted"})
    note(connection, by, "consolidate", {"consolidation": number}, now=now)
    return _of(connection, number)


def asked_for(connection: Connection, *, limit: int) -> list[Consolidation]:
    """Consolidations, newest first."""
    query = select(consolidations).order_by(consolidations.c.id.desc()).limit(limit)
    return [Consolidation(**row._mapping) for row in connection.execute(query)]


def wanted(connection: Connection) -> Consolidation | None:
    """The consolidation to plan next."""
    query = select(consolidations.c.id).where(consolidations.c.state == "wanted")
    number = connection.scalar(query.order_by(consolidations.c.id))
    return None if number is None else _of(connection, number)


def taught_in(connection: Connection) -> list[Route]:
    """The routes of domains in which an update answers, which can teach."""
    return [route for route in all_routes(connection) if route.update_id is not None]


def hindrance(connection: Connection) -> str | None:
    """Why no student can be planned now; None if one can."""
    teaching = taught_in(connection)
    if len(teaching) < FEWEST:
        return f"fewer than {FEWEST} domains have an update that answers"
    for route in teaching:
        if (number := on_the_way(connection, route.domain)) is not None:
            return f"update {number} of {route.domain} is not decided yet"
        if not has_learned(connection, route.domain):
            return f"all that {route.domain} has learned was taken back; it has nothing to teach"
    return None


def put_off(connection: Connection, *, learner: int, number: int, why: str) -> None:
    """Record why a consolidation cannot be planned yet."""
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
    """Plan the updates of a wanted consolidation, one for every domain that teaches.

    Args:
        shown: by domain, numbers of learned rows on which it teaches.

    Raises Fenced if the consolidation is no longer wanted, or if what answers in a domain has not
    learned these rows, because it is another update or they were taken back.
    """
    check_learner(connection, learner)
    teaching = taught_in(connection)
    showing = {domain for domain, rows in shown.items() if rows}
    if hindrance(connection) or {route.domain for route in teaching} != showing:
        raise Fenced("what answers has changed since; plan again")
    by = _of(connection, number).by
    if not _set(connection, number, state="planned", why=None):
        raise Fenced(f"consolidation {number} is already planned")
    facts = {"at": now, "decided_by": by, "consolidation_id": number}
    return [enter(connection, route, (), shown[route.domain], **facts) for route in teaching]


def updates_of(connection: Connection, number: int) -> list[Update]:
    """The updates of a consolidation, one per domain, in the order of their plans."""
    query = select(updates).where(updates.c.consolidation_id == number).order_by(updates.c.id)
    return [Update(**row._mapping) for row in connection.execute(query)]


def unfinished(connection: Connection) -> set[int]:
    """Consolidations with updates that their gates have not decided."""
    query = select(updates.c.consolidation_id).where(updates.c.state.in_(UNDECIDED))
    return {number for number in connection.scalars(query) if number is not None}


def _on_its_way(connection: Connection) -> int | None:
    request = wanted(connection)
    return request.id if request is not None else max(unfinished(connection), default=None)


def _of(connection: Connection, number: int) -> Consolidation:
    query = select(consolidations).where(consolidations.c.id == number)
    return Consolidation(**connection.execute(query).one()._mapping)


def _set(connection: Connection, number: int, **values: Any) -> bool:
    """Change a consolidation; False if it is not `wanted`."""
    still = consolidations.c.id == number, consolidations.c.state == "wanted"
    return bool(connection.execute(update(consolidations).where(*still).values(values)).rowcount)
