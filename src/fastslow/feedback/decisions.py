"""Decides what is served: promoted or set aside by the gate, undone or released by hand."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update

from fastslow.feedback.locks import lock_chains
from fastslow.feedback.people import note
from fastslow.feedback.planning import become, check_learner
from fastslow.feedback.refusals import Fenced, Malformed
from fastslow.feedback.schema import routes, updates
from fastslow.feedback.updates import (
    FREE,
    OPEN,
    SERVED,
    SET_ASIDE,
    WAITING,
    Route,
    Update,
    change,
    route_of,
    update_of,
)


def promote(connection: Connection, *, learner: int, update_id: int, gate: Any) -> Route:
    """An update has passed the gate and answers from now on.

    Raises Fenced for a stale learner, or if the chain has changed since the update was planned.
    """
    check_learner(connection, learner)
    become(connection, update_id, "gating", "promoted", gate=gate)
    return _serve(connection, update_of(connection, update_id))


def wait(connection: Connection, *, learner: int, update_id: int, gate: Any) -> None:
    """An update has passed the gate and waits for a person to approve it."""
    check_learner(connection, learner)
    become(connection, update_id, "gating", WAITING, gate=gate)


def quarantine(connection: Connection, *, learner: int, update_id: int, gate: Any) -> None:
    """An update has failed the gate; its rows are not learned again unless it is released."""
    check_learner(connection, learner)
    failed = update_of(connection, update_id)
    become(connection, update_id, "gating", "quarantined", gate=gate)
    _new_epoch(connection, failed.domain)


def roll_back(
    connection: Connection, *, update_id: int, now: float, by: int | None, why: str = ""
) -> Route:
    """Serve what was served before an update, at once.

    Its rows are not learned again unless it is released; those of later updates are learned again
    without it. A learner that is training from them is fenced off.
    Raises Malformed for an update that is not in its domain's chain.
    """
    lock_chains(connection)
    undone = update_of(connection, update_id)
    if undone.state not in SERVED:
        raise Malformed(
            f"update {update_id} is {undone.state}; only the update that answers and "
            "those before it can be rolled back"
        )
    later = select(updates.c.id).where(
        updates.c.domain == undone.domain, updates.c.state.in_(SERVED), updates.c.id > update_id
    )
    after = list(connection.scalars(later.order_by(updates.c.id)))
    before = None if undone.parent is None else update_of(connection, undone.parent)
    if before is not None and before.checkpoint is None:
        raise Malformed(
            f"update {before.id}, which would answer again, is no longer kept; live.keep sets how "
            "many are"
        )
    change(connection, [update_id], state="rolled_back", decided_by=by)
    change(connection, after, state=FREE)
    serve_earlier(connection, undone.domain, before, gone=[update_id, *after])
    detail = {"update": update_id, "also": after, "serves": undone.parent, "why": why}
    note(connection, by, "roll_back", detail, now=now)
    return route_of(connection, undone.domain)


def serve_earlier(
    connection: Connection, domain: str, to: Update | None, *, gone: Sequence[int]
) -> None:
    """Serve an earlier update of a domain's chain, or the base. Updates after it are `gone`, and so
    are students that they are teaching."""
    number, anchor = (None if to is None else to.id), route_of(connection, domain).anchor_id
    if to is not None:
        change(connection, [to.id], state="promoted")
    _new_epoch(connection, domain)
    _give_up_students(connection, gone)
    _route(
        connection,
        route_of(connection, domain),
        update_id=number,
        previous_id=None if to is None else to.parent,
        anchor_id=number if anchor in gone else anchor,
    )


def undo_fallen(
    connection: Connection, *, learner: int, update_id: int, now: float, why: str
) -> Route:
    """Roll back an update that votes have shown to be worse; its record says so."""
    check_learner(connection, learner)
    gate = update_of(connection, update_id).gate
    route = roll_back(connection, update_id=update_id, now=now, by=None, why=why)
    change(connection, [update_id], gate={**gate, "fallen": why})
    return route


def forget_old(connection: Connection, *, learner: int, domain: str, keep: int) -> list[Update]:
    """Record as gone the checkpoints and adapters of all updates that gave their rows back, and of
    all others but the newest `keep`. What answers, what did before, and what was approved stay.
    Returns the updates to remove."""
    check_learner(connection, learner)
    route = route_of(connection, domain)
    needed = {route.update_id, route.previous_id, route.anchor_id}
    query = select(updates.c.id).where(
        updates.c.domain == domain,
        updates.c.checkpoint.is_not(None),
        updates.c.state.not_in(OPEN),
    )
    numbers = connection.scalars(query.order_by(updates.c.id.desc())).all()
    kept = [update_of(connection, number) for number in numbers]
    given_back = [old for old in kept if old.state == FREE]
    others = [old for old in kept if old.state != FREE]
    gone = [old for old in (*given_back, *others[keep:]) if old.id not in needed]
    change(connection, [old.id for old in gone], checkpoint=None)
    return gone


def release(connection: Connection, *, update_id: int, now: float, by: int | None) -> Update:
    """Give back the rows of an update that was set aside or waits: another update learns them."""
    return _decide(connection, update_id, FREE, now=now, by=by)


def discard(connection: Connection, *, update_id: int, now: float, by: int | None) -> Update:
    """Never learn the rows of an update that was set aside or waits."""
    return _decide(connection, update_id, "discarded", now=now, by=by)


def approve(connection: Connection, *, update_id: int, now: float, by: int) -> Route:
    """Approve an update: if it waits, it answers now, and slow drift is measured from it.

    Raises Malformed for an update that neither waits nor answers, or no longer does.
    """
    lock_chains(connection)
    approved = update_of(connection, update_id)
    domain = approved.domain
    if approved.state == WAITING:
        become(connection, update_id, WAITING, "promoted", decided_by=by)
        _serve(connection, approved)
    route = route_of(connection, domain)
    if route.update_id != update_id:
        answering = "the base" if route.update_id is None else f"update {route.update_id}"
        raise Malformed(f"update {update_id} does not answer in {domain}; {answering} does")
    _route(connection, route, anchor_id=update_id)
    note(connection, by, "approve", {"domain": domain, "update": update_id}, now=now)
    return route_of(connection, domain)


def _decide(
    connection: Connection, update_id: int, state: str, *, now: float, by: int | None
) -> Update:
    lock_chains(connection)
    before = update_of(connection, update_id)
    if before.state not in (*SET_ASIDE, WAITING):
        raise Malformed(
            f"update {update_id} is {before.state}; only one set aside or waiting can be {state}"
        )
    change(connection, [update_id], state=state, decided_by=by)
    if before.state == WAITING:
        _new_epoch(connection, before.domain)  # Its rows may be planned again.
    note(connection, by, state, {"update": update_id}, now=now)
    return update_of(connection, update_id)


def _serve(connection: Connection, promoted: Update) -> Route:
    """Make an update answer; its parent did so until now."""
    before = route_of(connection, promoted.domain)
    if not before.precedes(promoted):
        raise Fenced(
            f"update {promoted.id} is based on a policy that {promoted.domain} no longer serves"
        )
    if before.update_id is not None:
        change(connection, [before.update_id], state="superseded")
    _route(connection, before, update_id=promoted.id, previous_id=before.update_id)
    return route_of(connection, promoted.domain)


def _new_epoch(connection: Connection, domain: str) -> None:
    """Give up undecided and waiting updates of a domain; their rows wait again."""
    route = route_of(connection, domain)
    _route(connection, route, epoch=route.epoch + 1)
    connection.execute(
        update(updates)
        .where(updates.c.domain == domain, updates.c.state.in_(OPEN))
        .values(state=FREE)
    )


def _give_up_students(connection: Connection, teachers: Sequence[int]) -> None:
    """Give up undecided and waiting updates of students that these updates teach."""
    taught = select(updates.c.consolidation_id).where(
        updates.c.parent.in_(teachers), updates.c.consolidation_id.is_not(None)
    )
    connection.execute(
        update(updates)
        .where(updates.c.consolidation_id.in_(taught), updates.c.state.in_(OPEN))
        .values(state=FREE)
    )


def _route(connection: Connection, before: Route, **facts: Any) -> None:
    """Change a route. Raises Fenced if somebody else has since it was read."""
    if connection.scalar(select(routes.c.domain).where(routes.c.domain == before.domain)) is None:
        connection.execute(insert(routes).values(domain=before.domain, epoch=before.epoch))
    done = connection.execute(
        update(routes)
        .where(routes.c.domain == before.domain, routes.c.epoch == before.epoch)
        .values(**facts)
    )
    if not done.rowcount:
        raise Fenced(f"the route of {before.domain} has changed since")
