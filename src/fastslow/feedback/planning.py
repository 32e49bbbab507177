"""What is learned next, and how far it got, as the learner records it.

One learner at a time may write: a later one fences it off, and so does any change to the chain that
it builds on. So what answers has learned each of its rows once.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Select, exists, func, insert, select, update

from fastslow.feedback.ledger import Entry, entry_of
from fastslow.feedback.locks import lock_chains
from fastslow.feedback.refusals import Fenced, Malformed
from fastslow.feedback.schema import insert_row, ledger, meta, update_rows, updates, votes
from fastslow.feedback.updates import (
    FREE,
    OPEN,
    SERVED,
    UNDECIDED,
    Route,
    Update,
    change,
    route_of,
    update_of,
)

NEXT = {"learning": "planned", "candidate": "learning", "gating": "candidate"}
"""The state before each state that a learner may move an update to."""


def claim(connection: Connection) -> int:
    """Become the learner, and fence off earlier ones. Returns the learner's number."""
    number = lock_chains(connection) + 1
    connection.execute(update(meta).where(meta.c.key == "epoch").values(value=str(number)))
    return number


def domains(connection: Connection) -> list[str]:
    """Domains of the ledger, in order; looked up in its index one by one."""
    names = list[str]()
    after = select(func.min(ledger.c.domain))
    name = connection.scalar(after)
    while name is not None:
        names.append(name)
        name = connection.scalar(after.where(ledger.c.domain > name))
    return names


def last_row(connection: Connection, domain: str) -> int:
    """The number of a domain's last row that may be learned; 0 if there is none."""
    query = select(func.max(ledger.c.seq)).where(ledger.c.domain == domain, ~ledger.c.holdout)
    return int(connection.scalar(query) or 0)


def marks(connection: Connection) -> tuple[int, int, int]:
    """Values that change with every plan and every decision on one: the newest update, how many are
    undecided or wait, and how many have given their rows back."""
    counts = [
        select(func.count(updates.c.id)).where(condition).scalar_subquery()
        for condition in (updates.c.state.in_(OPEN), updates.c.state == FREE)
    ]
    newest, undecided, free = connection.execute(select(func.max(updates.c.id), *counts)).one()
    return newest or 0, undecided, free


def freed(connection: Connection, domain: str) -> int:
    """How many updates of a domain have given their rows back so far."""
    query = select(func.count(updates.c.id)).where(
        updates.c.domain == domain, updates.c.state == FREE
    )
    return int(connection.scalar(query) or 0)


def last_planned(connection: Connection, domain: str) -> int:
    """The newest update of a domain; 0 if there is none."""
    query = select(func.max(updates.c.id)).where(updates.c.domain == domain)
    return int(connection.scalar(query) or 0)


def waiting(
    connection: Connection, domain: str, *, after: int = 0, limit: int | None = None
) -> list[Entry]:
    """The ledger's rows after a number that no update has learned or set aside, in order."""
    query = select(ledger).where(ledger.c.domain == domain, ledger.c.seq > after, *_waits())
    rows = connection.execute(query.order_by(ledger.c.seq).limit(limit))
    return [entry_of(row) for row in rows]


def newcomers(connection: Connection, voters: Iterable[int], *, fewer: int, at: float) -> set[int]:
    """Those of some people with fewer than `fewer` votes admitted until `at`."""
    new = set()
    for voter in voters:
        admitted = select(votes.c.id).where(votes.c.voter == voter, votes.c.admitted_at <= at)
        if len(connection.scalars(admitted.limit(fewer)).all()) < fewer:
            new.add(voter)
    return new


def learned(connection: Connection, domain: str) -> list[int]:
    """Numbers of the rows that what answers in a domain has learned and that still stand."""
    return list(connection.scalars(_learned(domain).order_by(update_rows.c.seq)))


def has_learned(connection: Connection, domain: str) -> bool:
    """True if `learned` has any rows."""
    return connection.scalar(_learned(domain).limit(1)) is not None


def last_learned(connection: Connection, domain: str, *, limit: int) -> list[Entry]:
    """The last rows of `learned`, newest first."""
    # Read backwards from the ledger's end: SQLite would sort everything ever learned.
    taken = exists().where(
        update_rows.c.seq == ledger.c.seq, update_rows.c.update_id == updates.c.id, *_served()
    )
    return _newest(connection, domain, limit, ~ledger.c.holdout, taken)


def newest(connection: Connection, domain: str, *, until: float, limit: int) -> list[Entry]:
    """The newest rows of a domain for learning, of those admitted until a time."""
    return _newest(connection, domain, limit, ~ledger.c.holdout, ledger.c.at <= until)


def held_out(connection: Connection, domain: str, *, up_to: int, limit: int) -> list[Entry]:
    """The newest held-out rows of a domain, up to a row number."""
    return _newest(connection, domain, limit, ledger.c.holdout, ledger.c.seq <= up_to)


def on_the_way(connection: Connection, domain: str) -> int | None:
    """The update of a domain that neither the gate nor a person has decided yet."""
    query = select(updates.c.id).where(updates.c.domain == domain, updates.c.state.in_(OPEN))
    return connection.scalar(query)


def plan(
    connection: Connection,
    *,
    learner: int,
    domain: str,
    rows: Sequence[int],
    replayed: Sequence[int] = (),
    now: float,
    by: int | None = None,
) -> Update:
    """Plan the next update of a domain, starting from what it serves.

    Args:
        rows: numbers of waiting rows.
        replayed: numbers of learned rows to learn again.
        by: the person who asked for exactly these rows.

    Raises Fenced for a stale learner, while an update of the domain is undecided, if a row no
    longer waits, or if a replayed row was taken back.
    """
    check_learner(connection, learner)
    if (number := on_the_way(connection, domain)) is not None:
        raise Fenced(f"update {number} of {domain} is not decided yet")
    still = select(func.count(ledger.c.seq)).where(
        ledger.c.domain == domain, ledger.c.seq.in_(rows), *_waits()
    )
    if not rows or connection.scalar(still) != len(rows):
        raise Fenced("some of these rows no longer wait; plan again")
    return enter(connection, route_of(connection, domain), rows, replayed, at=now, decided_by=by)


def enter(
    connection: Connection,
    route: Route,
    rows: Sequence[int],
    replayed: Sequence[int],
    **facts: Any,
) -> Update:
    """Store the plan of an update that starts from what a route serves. Raises Fenced unless that
    has learned the replayed rows."""
    still = _learned(route.domain).where(update_rows.c.seq.in_(replayed))
    if {*connection.scalars(still)} != {*replayed}:
        raise Fenced("some of these rows are no longer learned; plan again")
    values = {
        "domain": route.domain, "parent": route.update_id, "epoch": route.epoch, "state": "planned",
        **facts,
    }  # fmt: skip
    number = insert_row(connection, updates, values)
    all_rows = [(seq, False) for seq in rows] + [(seq, True) for seq in replayed]
    connection.execute(
        insert(update_rows),
        [
            {"update_id": number, "seq": seq, "epoch": route.epoch, "replayed": is_replayed}
            for seq, is_replayed in all_rows
        ],
    )
    return update_of(connection, number)


def move(
    connection: Connection, *, learner: int, update_id: int, state: str, **facts: Any
) -> Update:
    """Move an update to the state `learning`, `candidate` or `gating`, and set columns (`facts`).

    Raises Fenced if it is not in the state before.
    """
    if state not in NEXT:
        raise Malformed(f"a learner cannot make an update {state}, only {', '.join(NEXT)}")
    check_learner(connection, learner)
    become(connection, update_id, NEXT[state], state, **facts)
    return update_of(connection, update_id)


def undecided(connection: Connection) -> list[int]:
    """Updates of any domain that a learner has planned and not finished."""
    query = select(updates.c.id).where(updates.c.state.in_(UNDECIDED)).order_by(updates.c.id)
    return list(connection.scalars(query))


def resume(connection: Connection, *, learner: int) -> list[Update]:
    """The updates that an earlier learner left undecided, to be learned again from their plans.

    Those whose parent no longer answers could never answer: their rows wait again.
    """
    check_learner(connection, learner)
    unfinished = [update_of(connection, number) for number in undecided(connection)]
    routes = {past.domain: route_of(connection, past.domain) for past in unfinished}
    stale = [past.id for past in unfinished if not routes[past.domain].precedes(past)]
    change(connection, stale, state=FREE)
    change(connection, [past.id for past in unfinished if past.id not in stale], state="planned")
    return [update_of(connection, past.id) for past in unfinished if past.id not in stale]


def is_learner(connection: Connection, learner: int) -> bool:
    """True if this learner is the newest."""
    return learner == lock_chains(connection)


def check_learner(connection: Connection, learner: int) -> None:
    """Raises Fenced unless this learner is the newest."""
    if not is_learner(connection, learner):
        raise Fenced("another learner has started; this one may no longer write")


def become(connection: Connection, update_id: int, before: str, state: str, **facts: Any) -> None:
    """Change an update's state. Raises Fenced if its state is not `before`."""
    done = connection.execute(
        update(updates)
        .where(updates.c.id == update_id, updates.c.state == before)
        .values(state=state, **facts)
    )
    if not done.rowcount:
        current = update_of(connection, update_id)
        raise Fenced(f"update {update_id} is {current.state}, not {before}")


def stands() -> tuple[Any, ...]:
    """Conditions for a row that stands: not a retraction, and its vote was not taken back."""
    taken_back = exists().where(votes.c.id == ledger.c.vote_id, votes.c.retracted_at.is_not(None))
    return ledger.c.kind != "retract", ~taken_back


def _newest(connection: Connection, domain: str, limit: int, *conditions: Any) -> list[Entry]:
    """The newest rows of a domain that stand and meet conditions, newest first."""
    query = select(ledger).where(ledger.c.domain == domain, *conditions, *stands())
    rows = connection.execute(query.order_by(ledger.c.seq.desc()).limit(limit))
    return [entry_of(row) for row in rows]


def _learned(domain: str) -> Select[tuple[int]]:
    """Statement for the numbers of `learned`."""
    return (
        select(update_rows.c.seq)
        .join(updates, updates.c.id == update_rows.c.update_id)
        .join(ledger, ledger.c.seq == update_rows.c.seq)
        .where(updates.c.domain == domain, *_served(), *stands())
    )


def _served() -> tuple[Any, ...]:
    """Conditions for a row that an update in the served chain learned first, not replayed."""
    return updates.c.state.in_(SERVED), ~update_rows.c.replayed


def _waits() -> tuple[Any, ...]:
    """Conditions for a row that waits to be learned."""
    taken = exists().where(
        update_rows.c.seq == ledger.c.seq,
        ~update_rows.c.replayed,
        update_rows.c.update_id == updates.c.id,
        updates.c.state != FREE,
    )
    return *stands(), ~ledger.c.holdout, ~taken
