"""Nothing is learned of somebody any more; what had learned from them is learned again without."""

from collections.abc import Set
from dataclasses import dataclass

from sqlalchemy import Connection, select

from fastslow.feedback.decisions import serve_earlier
from fastslow.feedback.locks import lock_chains
from fastslow.feedback.people import note, set_disabled
from fastslow.feedback.schema import ledger, update_rows, updates, votes
from fastslow.feedback.updates import FREE, OPEN, SERVED, Update, change, history, update_of
from fastslow.feedback.voting import retract


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was undone."""

    votes: int
    """That were taken back."""
    updates: list[int]
    """That answer no more; the rest of their rows waits to be learned again."""


def forget_person(
    connection: Connection, *, principal_id: int, now: float, by: int | None
) -> Forgotten:
    """Disable somebody, take back all that they have sent, and go back in every domain to before
    the first update that learned from it.

    Once the other rows are learned again, everything is as if this person had sent nothing. Until
    then what answers is what did before them, or an update before that, if it is no longer kept.
    Raises UnknownItem, and Malformed for oneself.
    """
    lock_chains(connection)
    set_disabled(connection, principal_id=principal_id, disabled=True, now=now, by=by)
    own = select(votes.c.id).where(votes.c.voter == principal_id)
    sent = list(connection.scalars(own.where(votes.c.retracted_at.is_(None)).order_by(votes.c.id)))
    for vote_id in sent:
        retract(connection, voter=principal_id, vote_id=vote_id, now=now)
    learned = select(update_rows.c.update_id).join(ledger, ledger.c.seq == update_rows.c.seq)
    of_theirs = learned.where(ledger.c.vote_id.in_(own))
    first = _first_touched(connection, set(connection.scalars(of_theirs)))
    gone = [
        number
        for domain, found in sorted(first.items())
        for number in _undone_from(connection, domain, found)
    ]
    detail = {"principal": principal_id, "votes": len(sent), "updates": gone}
    note(connection, by, "forget", detail, now=now)
    return Forgotten(len(sent), gone)


def _first_touched(connection: Connection, learned: Set[int]) -> dict[str, Update]:
    """By domain, the first of the updates that answer, did or may come to, which has learned from
    what some have learned: itself, by its parent, or, a student, by any of its teachers."""
    everything = history(connection)[::-1]
    teachers = dict[int, set[int | None]]()
    for one in everything:
        if one.consolidation_id is not None:
            teachers.setdefault(one.consolidation_id, set()).add(one.parent)
    touched, first = {*learned}, dict[str, Update]()
    for one in everything:  # What one learns from comes before it.
        sources = {one.parent} | teachers.get(one.consolidation_id or 0, set())
        if one.id in touched or touched & sources:
            touched.add(one.id)
            if one.state in (*SERVED, *OPEN):
                first.setdefault(one.domain, one)
    return first


def _undone_from(connection: Connection, domain: str, first: Update) -> list[int]:
    """Go back to before an update; those that answer no more."""
    before = _last_kept(connection, first.parent)
    query = select(updates.c.id).where(
        updates.c.domain == domain,
        updates.c.state.in_(SERVED),
        updates.c.id > (0 if before is None else before.id),
    )
    gone = list(connection.scalars(query.order_by(updates.c.id)))
    change(connection, gone, state=FREE)
    serve_earlier(connection, domain, before, gone=gone)
    return gone


def _last_kept(connection: Connection, number: int | None) -> Update | None:
    """An update, or the last before it from which can be learned on."""
    while number is not None:
        found = update_of(connection, number)
        if found.checkpoint is not None:
            return found
        number = found.parent
    return None
