"""Votes on pairs, ratings and edits of answers: each is written once, however often it is sent.

A request repeated with the same idempotency key gets the same receipt; the same key with another
body is refused. People can take back everything that they sent.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from fastslow.feedback.leases import LEASE, check_given, lease, release
from fastslow.feedback.locks import lock_pair, lock_person
from fastslow.feedback.refusals import AlreadyVoted, KeyReused, Malformed, NotGiven, UnknownItem
from fastslow.feedback.schema import COMPARED, RATED, answers, insert_row, pairs, votes

GRACE = 60.0
"""Seconds in which what was sent can be taken back before anything learns from it."""
LONGEST_KEY = 200
LONGEST_TEXT = 100_000
"""Most characters of an edited answer or of a reason."""


# Built once, as building them takes longer than SQLite takes to answer.
OF_KEY = select(votes).where(
    votes.c.voter == bindparam("who"), votes.c.idem_key == bindparam("key")
)
_EARLIER = select(votes.c.id).where(
    votes.c.voter == bindparam("who"), votes.c.retracted_at.is_(None)
)
# One statement for both would scan everything that the person ever sent.
EARLIER_ON_PAIR = _EARLIER.where(votes.c.pair_id == bindparam("pair"))
EARLIER_ON_ANSWER = _EARLIER.where(
    votes.c.kind == bindparam("kind_"), votes.c.answer_id == bindparam("answer")
)
_GIVEN = (
    select(func.count())
    .select_from(votes)
    .where(
        votes.c.pair_id == bindparam("pair"),
        votes.c.retracted_at.is_(None),
        votes.c.verdict != "skip",
    )
    .scalar_subquery()
)
OPEN_OR_CLOSE = (
    update(pairs).where(pairs.c.id == bindparam("pair")).values(open=_GIVEN < pairs.c.needs)
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was written."""

    id: int
    kind: str
    verdict: str
    at: float
    retracted: bool = False
    repeated: bool = False
    """True if it had been written before."""


def vote(
    connection: Connection,
    *,
    voter: int,
    pair_id: int,
    verdict: str,
    key: str,
    now: float,
    reason: str | None = None,
    seen_ms: int | None = None,
) -> Receipt:
    """Write a vote on a pair; `a` is the answer on the left.

    Args:
        seen_ms: milliseconds for which both answers were visible.

    Raises UnknownItem, NotGiven for a pair that was never given to them, AlreadyVoted, KeyReused.
    """
    if verdict not in COMPARED:
        raise Malformed(f"unknown verdict {verdict!r}; use one of {', '.join(COMPARED)}")
    subject = {"kind": "vote", "pair_id": pair_id, "answer_id": None}
    body = {**subject, "verdict": verdict, "text": None, "reason": reason}
    if known := _known(connection, voter, key, body):
        return known
    check_given(connection, pair_id=pair_id, voter=voter)
    receipt = _write(connection, voter, key, body, seen_ms=seen_ms, now=now)
    release(connection, pair_id=pair_id, voter=voter, now=now)
    _open_or_close(connection, pair_id)
    return receipt


def rate(
    connection: Connection,
    *,
    voter: int,
    answer_id: int,
    verdict: str,
    key: str,
    now: float,
    reason: str | None = None,
) -> Receipt:
    """Write a rating of an answer: good (`up`) or bad (`down`)."""
    if verdict not in RATED:
        raise Malformed(f"a rating must be 'up' or 'down', not {verdict!r}")
    subject = {"kind": "rating", "pair_id": None, "answer_id": answer_id}
    body = {**subject, "verdict": verdict, "text": None, "reason": reason}
    return _on_answer(connection, voter, answer_id, key, body, now)


def edit(
    connection: Connection, *, voter: int, answer_id: int, text: str, key: str, now: float
) -> Receipt:
    """Write an edited answer: it is learned as better than the original."""
    if not text.strip():
        raise Malformed("the edited answer is empty")
    subject = {"kind": "edit", "pair_id": None, "answer_id": answer_id}
    body = {**subject, "verdict": "edited", "text": text, "reason": None}
    if known := _known(connection, voter, key, body):
        return known
    original = connection.scalar(select(answers.c.text).where(answers.c.id == answer_id))
    if original == text:
        raise Malformed("the edited answer is the same as before")
    return _on_answer(connection, voter, answer_id, key, body, now)


def retract(connection: Connection, *, voter: int, vote_id: int, now: float) -> Receipt:
    """Take back a vote, rating or edit; a pair can then be voted on again. Idempotent.

    Within GRACE nothing has learned from it. Later its row is retracted from the ledger too, and
    its updates show what learned from it.
    """
    row = connection.execute(
        select(votes).where(votes.c.id == vote_id, votes.c.voter == voter)
    ).one_or_none()
    if row is None:
        raise UnknownItem(f"you have no vote {vote_id}")
    if row.retracted_at is None:
        connection.execute(update(votes).where(votes.c.id == vote_id).values(retracted_at=now))
        if row.pair_id is not None:
            lease(connection, pair_id=row.pair_id, voter=voter, until=now + LEASE)
            _open_or_close(connection, row.pair_id)
    return Receipt(row.id, row.kind, row.verdict, row.at, retracted=True)


def _on_answer(
    connection: Connection,
    voter: int,
    answer_id: int,
    key: str,
    body: Mapping[str, Any],
    now: float,
) -> Receipt:
    if known := _known(connection, voter, key, body):
        return known
    if connection.scalar(select(answers.c.id).where(answers.c.id == answer_id)) is None:
        raise UnknownItem(f"there is no answer {answer_id}")
    return _write(connection, voter, key, body, seen_ms=None, now=now)


def _known(connection: Connection, voter: int, key: str, body: Mapping[str, Any]) -> Receipt | None:
    """The receipt of what was written under a key; also checks the key and the texts."""
    if not 0 < len(key) <= LONGEST_KEY:
        raise Malformed(f"an idempotency key must have 1 to {LONGEST_KEY} characters")
    if any(len(body[name] or "") > LONGEST_TEXT for name in ("text", "reason")):
        raise Malformed(f"a text can have at most {LONGEST_TEXT:,} characters")
    row = connection.execute(OF_KEY, {"who": voter, "key": key}).one_or_none()
    if row is None:
        return None
    if row.body_sha256 != _hash(body):
        raise KeyReused("this idempotency key was used for a different request; use a new one")
    return _receipt(row, repeated=True)


def _write(
    connection: Connection,
    voter: int,
    key: str,
    body: Mapping[str, Any],
    *,
    seen_ms: int | None,
    now: float,
) -> Receipt:
    # Another server may accept a revoked token for a moment; nobody would take these votes back.
    if lock_person(connection, voter):
        raise NotGiven("you may no longer send anything; an admin can allow it again")
    if (earlier := _earlier(connection, voter, body)) is not None:
        raise AlreadyVoted(f"you have already voted on this; take back vote {earlier} first")
    values = {
        **body, "voter": voter, "idem_key": key, "body_sha256": _hash(body), "seen_ms": seen_ms,
        "at": now,
    }  # fmt: skip
    number = insert_row(connection, votes, values)
    return Receipt(number, body["kind"], body["verdict"], now)


def _earlier(connection: Connection, voter: int, body: Mapping[str, Any]) -> int | None:
    """The person's earlier vote of this kind on the same thing; None if there is none."""
    if body["pair_id"] is not None:
        return connection.scalar(EARLIER_ON_PAIR, {"who": voter, "pair": body["pair_id"]})
    facts = {"who": voter, "kind_": body["kind"], "answer": body["answer_id"]}
    return connection.scalar(EARLIER_ON_ANSWER, facts)


def _open_or_close(connection: Connection, pair_id: int) -> None:
    """Record whether a pair lacks verdicts. The lock makes the last writer count all verdicts."""
    lock_pair(connection, pair_id)
    connection.execute(OPEN_OR_CLOSE, {"pair": pair_id})


def _receipt(row: Row[Any], *, repeated: bool) -> Receipt:
    retracted = row.retracted_at is not None
    return Receipt(row.id, row.kind, row.verdict, row.at, retracted, repeated)


def _hash(body: Mapping[str, Any]) -> str:
    return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
