"""Forgets a person: takes back what they sent and undoes the updates that learned from it."""

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
    """Votes that were taken back."""
    updates: list[int]
    """Updates that no longer answer; their other rows wait to be learned again."""


def forget_person(
    connection: Connection, *, principal_id: int, now: float, by: int | None
) -> Forgotten:
    """Disable somebody, take back all that they have sent, and roll every domain back to before the
    first update that learned from it.

    Once the other rows are learned again, everything is as if this person had sent nothing. Until
    then, what answered before them answers, or an earlier update if that one is no longer kept.
    Nothing that learned from them is kept, set aside or not: the learner removes it from disk.
    Raises UnknownItem, and Malformed for oneself.
    """
    lock_chains(connection)
    set_disabled(connection, principal_id=principal_id, disabled=True, now=now, by=by)
    theirs = select(votes.c.id).where(votes.c.voter == principal_id)
    sent = list(
        connection.scalars(theirs.where(votes.c.retracted_at.is_(None)).order_by(votes.c.id))
    )
    for vote_id in sent:
        retract(connection, voter=principal_id, vote_id=vote_id, now=now)
    learned = select(update_rows.c.update_id).join(ledger, ledger.c.seq == update_rows.c.seq)
    from_theirs = learned.where(ledger.c.vote_id.in_(theirs))
    touched = _touched(connection, set(connection.scalars(from_theirs)))
    first = dict[str, Update]()
    for past in touched:
        if past.state in (*SERVED, *OPEN):
            first.setdefault(past.domain, past)
    gone = [
        number
        for domain, earliest in sorted(first.items())
        for number in _undone_from(connection, domain, earliest)
    ]
    change(connection, [past.id for past in touched], checkpoint=None)
    detail = {"principal": principal_id, "votes": len(sent), "updates": gone}
    note(connection, by, "forget", detail, now=now)
    return Forgotten(len(sent), gone)


def _touched(connection: Connection, learned: Set[int]) -> list[Update]:
    """The updates, in order, that `learned` influenced: themselves, those with an influenced
    parent, and students with an influenced teacher."""
    everything = history(connection)[::-1]
    teachers = dict[int, set[int | None]]()
    for past in everything:
        if past.consolidation_id is not None:
            teachers.setdefault(past.consolidation_id, set()).add(past.parent)
    numbers, touched = {*learned}, list[Update]()
    for past in everything:  # Sources come before the updates that learn from them.
        sources = {past.parent} | teachers.get(past.consolidation_id or 0, set())
        if past.id in numbers or numbers & sources:
            numbers.add(past.id)
            touched.append(past)
    return touched


def _undone_from(connection: Connection, domain: str, first: Update) -> list[int]:
    """Roll a domain back to before an update; returns the updates that no longer answer."""
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
    """An update, or its last ancestor that learning can continue from."""
    while number is not None:
        candidate = update_of(connection, number)
        if candidate.checkpoint is not None:
            return candidate
        number = candidate.parent
    return None
