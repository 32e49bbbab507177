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
    Nothing that learned from them is kept, set aside or not: the learner removes it from the disk.
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
    touched = _touched(connection, set(connection.scalars(of_theirs)))
    first = dict[str, Update]()
    for one in touched:
        if one.state in (*SERVED, *OPEN):
            first.setdefault(one.domain, one)
    gone = [
        number
        for domain, found in sorted(first.items())
        for number in _undone_from(connection, domain, found)
    ]
    change(connection, [one.id for one in touched], checkpoint=None)
    detail = {"principal": principal_id, "votes": len(sent), "updates": gone}
    note(connection, by, "forget", detail, now=now)
    return Forgotten(len(sent), gone)


def _touched(connection: Connection, learned: Set[int]) -> list[Update]:
    """The updates, in order, that learned from what some have learned: themselves, by their parent,
    or, students, by any of their teachers."""
    everything = history(connection)[::-1]
    teachers = dict[int, set[int | None]]()
    for one in everything:
        if one.consolidation_id is not None:
            teachers.setdefault(one.consolidation_id, set()).add(one.parent)
    numbers, found = {*learned}, list[Update]()
    for one in everything:  # What one learns from comes before it.
        sources = {one.parent} | teachers.get(one.consolidation_id or 0, set())
        if one.id in numbers or numbers & sources:
            numbers.add(one.id)
            found.append(one)
    return found


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
