"""Updates: what was learned at one time, from which rows of the ledger, and what became of it.

In each domain the promoted updates are one chain, from the base to the one that answers: each
begins where the one before it ended. `planning` adds to it, `decisions` says what is served.
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
"""Has passed the gate, and answers once a person approves of it."""
OPEN = (*UNDECIDED, WAITING)
"""Its domain plans no other."""
SERVED = ("promoted", "superseded")
"""Of the chain from the base to the route."""
SET_ASIDE = ("quarantined", "rolled_back")
"""Their rows are learned no more, until a person releases them."""
FREE = "released"
"""Its rows wait again, for another update."""


@dataclass(frozen=True, slots=True)
class Update:
    """What was learned at one time."""

    id: int
    domain: str
    parent: int | None
    """The update at whose end it begins; None: at the base."""
    epoch: int
    """Of its domain's chain, when it was planned."""
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
        """Whether an update was planned from what is served now."""
        return (self.update_id, self.epoch) == (planned.parent, planned.epoch)


@dataclass(frozen=True, slots=True)
class Use:
    """An update that learned from a vote."""

    update_id: int
    domain: str
    state: str
    replayed: bool
    """Whether it had been learned from before, and was mixed in again."""


@dataclass(frozen=True, slots=True)
class Served:
    """What answers in a domain, and what did before, which answers again if it is undone."""

    domain: str
    now: Update | None
    before: Update | None


def not_kept(connection: Connection) -> list[Update]:
    """The decided updates of which nothing is to be on disk any more."""
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
    """Updates, the newest first; in these states only, if there are any."""
    query = select(updates).order_by(updates.c.id.desc()).limit(limit)
    if domain is not None:
        query = query.where(updates.c.domain == domain)
    if states:
        query = query.where(updates.c.state.in_(states))
    return [Update(**row._mapping) for row in connection.execute(query)]


def rows_of(connection: Connection, update_id: int) -> list[Entry]:
    """The ledger's rows of an update, new ones in order, then the replayed."""
    query = (
        select(ledger)
        .join(update_rows, update_rows.c.seq == ledger.c.seq)
        .where(update_rows.c.update_id == update_id)
        .order_by(update_rows.c.replayed, ledger.c.seq)
    )
    return [entry_of(row) for row in connection.execute(query)]


def num_new(connection: Connection, update_id: int) -> int:
    """How many of an update's rows, the first ones, were never learned before."""
    new = update_rows.c.update_id == update_id, ~update_rows.c.replayed
    return connection.scalar(select(func.count()).where(*new)) or 0


def uses_of(connection: Connection, vote_id: int) -> list[Use]:
    """Every update that learned from a vote, the first one first."""
    query = (
        select(updates.c.id, updates.c.domain, updates.c.state, update_rows.c.replayed)
        .join(update_rows, update_rows.c.update_id == updates.c.id)
        .join(ledger, ledger.c.seq == update_rows.c.seq)
        .where(ledger.c.vote_id == vote_id, ledger.c.kind != "retract")
        .order_by(updates.c.id)
    )
    return [Use(*row) for row in connection.execute(query)]


def route_of(connection: Connection, domain: str) -> Route:
    """What a domain serves; the base where nothing was promoted."""
    row = connection.execute(select(routes).where(routes.c.domain == domain)).one_or_none()
    return Route(domain) if row is None else Route(*row)


def all_routes(connection: Connection) -> list[Route]:
    """What is served in each domain that has ever had an update promoted or undone."""
    return [Route(*row) for row in connection.execute(select(routes).order_by(routes.c.domain))]


def served(connection: Connection) -> list[Served]:
    """What answers in each domain that has a route; None is the base."""

    def found(number: int | None) -> Update | None:
        return None if number is None else update_of(connection, number)

    return [
        Served(one.domain, found(one.update_id), found(one.previous_id))
        for one in all_routes(connection)
    ]


def change(connection: Connection, numbers: Sequence[int], **facts: Any) -> None:
    """Set columns of updates."""
    connection.execute(update(updates).where(updates.c.id.in_(numbers)).values(**facts))
