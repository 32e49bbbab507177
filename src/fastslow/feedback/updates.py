"""Updates: what was learned at one time, from which ledger rows, and what happened to it.

In each domain the promoted updates form one chain, from the base to the one that answers: each
starts where the one before it ended. `planning` adds to it, `decisions` decides what is served.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from fastslow.feedback.ledger import Entry, entry_of
from fastslow.feedback.refusals import UnknownItem
from fastslow.feedback.schema import ledger, routes, update_rows, updates

UNDECIDED = ("planned", "learning", "candidate", "gating")
WAITING = "waiting"
"""It has passed the gate, and answers once a person approves it."""
OPEN = (*UNDECIDED, WAITING)
"""While an update is in one of these states, its domain plans no other."""
SERVED = ("promoted", "superseded")
"""The update is in the chain from the base to what answers."""
SET_ASIDE = ("quarantined", "rolled_back")
"""The update's rows are not learned again until a person releases them."""
FREE = "released"
"""The update's rows wait again, for another update."""


@dataclass(frozen=True, slots=True)
class Update:
    """What was learned at one time."""

    id: int
    domain: str
    parent: int | None
    """The update whose final state it starts from; None: the base."""
    epoch: int
    """Epoch of its domain's chain when it was planned."""
    state: str
    adapter: str | None = None
    """Name of its folder."""
    adapter_sha256: str | None = None
    checkpoint: str | None = None
    gate: Any = None
    """What was tested, and the verdict."""
    decided_by: int | None = None
    at: float = 0.0
    consolidation_id: int | None = None
    """The consolidation whose student it is; None: it learned votes."""


@dataclass(frozen=True, slots=True)
class Route:
    """Which update answers in a domain."""

    domain: str
    update_id: int | None = None
    """None: the base."""
    previous_id: int | None = None
    anchor_id: int | None = None
    """The last one that a person approved."""
    epoch: int = 0

    def precedes(self, planned: Update) -> bool:
        """True if an update was planned from what is served now."""
        return (self.update_id, self.epoch) == (planned.parent, planned.epoch)


@dataclass(frozen=True, slots=True)
class Use:
    """An update that learned from a vote."""

    update_id: int
    domain: str
    state: str
    replayed: bool
    """True if an earlier update had learned the vote, and it was mixed in again."""


@dataclass(frozen=True, slots=True)
class Served:
    """What answers in a domain, and what did before and answers again if that is undone."""

    domain: str
    now: Update | None
    before: Update | None


def not_kept(connection: Connection) -> list[Update]:
    """The decided updates of which nothing should remain on disk."""
    query = select(updates).where(updates.c.checkpoint.is_(None), updates.c.state.not_in(OPEN))
    return [Update(**row._mapping) for row in connection.execute(query)]


def update_of(connection: Connection, update_id: int) -> Update:
    """An update. Raises UnknownItem."""
    row = connection.execute(select(updates).where(updates.c.id == update_id)).one_or_none()
    if row is None:
        raise UnknownItem(f"there is no update {update_id}")
    return Update(**row._mapping)


def history(
    connection: Connection,
    domain: str | None = None,
    *,
    states: Sequence[str] = (),
    limit: int | None = None,
) -> list[Update]:
    """Updates, newest first; only those in `states`, if any are given."""
    query = select(updates).order_by(updates.c.id.desc()).limit(limit)
    if domain is not None:
        query = query.where(updates.c.domain == domain)
    if states:
        query = query.where(updates.c.state.in_(states))
    return [Update(**row._mapping) for row in connection.execute(query)]


def rows_of(connection: Connection, update_id: int) -> list[Entry]:
    """The ledger rows of an update, in order: new ones first, then replayed ones."""
    query = (
        select(ledger)
        .join(update_rows, update_rows.c.seq == ledger.c.seq)
        .where(update_rows.c.update_id == update_id)
        .order_by(update_rows.c.replayed, ledger.c.seq)
    )
    return [entry_of(row) for row in connection.execute(query)]


def num_new(connection: Connection, update_id: int) -> int:
    """How many of an update's rows, counted from the first, were never learned before."""
    new = update_rows.c.update_id == update_id, ~update_rows.c.replayed
    return connection.scalar(select(func.count()).where(*new)) or 0


def uses_of(connection: Connection, vote_id: int) -> list[Use]:
    """Every update that learned from a vote, oldest first."""
    query = (
        select(updates.c.id, updates.c.domain, updates.c.state, update_rows.c.replayed)
        .join(update_rows, update_rows.c.update_id == updates.c.id)
        .join(ledger, ledger.c.seq == update_rows.c.seq)
        .where(ledger.c.vote_id == vote_id, ledger.c.kind != "retract")
        .order_by(updates.c.id)
    )
    return [Use(*row) for row in connection.execute(query)]


def route_of(connection: Connection, domain: str) -> Route:
    """What a domain serves; the base if nothing was promoted."""
    row = connection.execute(select(routes).where(routes.c.domain == domain)).one_or_none()
    return Route(domain) if row is None else Route(*row)


def all_routes(connection: Connection) -> list[Route]:
    """What is served in each domain that has ever had an update promoted or undone."""
    return [Route(*row) for row in connection.execute(select(routes).order_by(routes.c.domain))]


def served(connection: Connection) -> list[Served]:
    """What answers in each domain that has a route; None is the base."""

    def update_or_none(number: int | None) -> Update | None:
        return None if number is None else update_of(connection, number)

    return [
        Served(route.domain, update_or_none(route.update_id), update_or_none(route.previous_id))
        for route in all_routes(connection)
    ]


def change(connection: Connection, numbers: Sequence[int], **facts: Any) -> None:
    """Set columns of updates."""
    connection.execute(update(updates).where(updates.c.id.in_(numbers)).values(**facts))
