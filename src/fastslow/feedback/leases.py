"""Who compares which pair: each is given to as many people as it needs verdicts, for a while."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from fastslow.feedback.refusals import NotGiven, UnknownItem
from fastslow.feedback.schema import answers, leases, pairs, prompts, votes

LEASE = 600.0
"""Seconds for which nobody else gets a pair in the place of who was given it."""
GOLD_EVERY = 20
"""One of so many pairs that somebody gets is a gold question, while there are any."""
MOST_AT_ONCE = 20
OF_BOTH = (leases.c.pair_id == bindparam("pair"), leases.c.voter == bindparam("who"))
GIVEN = select(leases.c.pair_id).where(*OF_BOTH)
RELEASE = (
    update(leases).where(*OF_BOTH, leases.c.until > bindparam("now")).values(until=bindparam("now"))
)


@dataclass(frozen=True, slots=True)
class ShownPair:
    """A pair as somebody sees it: nothing tells where its answers come from."""

    id: int
    domain: str
    messages: Sequence[Mapping[str, Any]]
    a: str
    """Shown on the left."""
    b: str
    until: float
    """When somebody else may get it, Unix seconds."""


def next_pairs(
    connection: Connection, *, voter: int, now: float, count: int = 1, domain: str | None = None
) -> list[ShownPair]:
    """Pairs for somebody to compare, the first ones at hand; fewer where there are no more.

    Those that they were given before and have not voted on come first. Nobody gets a pair twice,
    or one that as many others are comparing as it needs.
    """
    count = min(count, MOST_AT_ONCE)
    held = _held(connection, voter, now, count)
    given = held + _new(connection, voter, now, count - len(held), domain)
    _lease_all(connection, given, voter, now + LEASE)
    return list(_shown(connection, given, now + LEASE))


def lease(connection: Connection, *, pair_id: int, voter: int, until: float) -> None:
    """Give a pair to somebody, or for longer."""
    _lease_all(connection, [pair_id], voter, until)


def _lease_all(connection: Connection, given: Sequence[int], voter: int, until: float) -> None:
    rows = [{"pair_id": pair_id, "voter": voter, "until": until} for pair_id in given]
    if rows:
        insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(leases)
        key = {"index_elements": ["pair_id", "voter"], "set_": {"until": until}}
        connection.execute(insert.values(rows).on_conflict_do_update(**key))


def release(connection: Connection, *, pair_id: int, voter: int, now: float) -> None:
    """Let others have a pair now."""
    connection.execute(RELEASE, {"pair": pair_id, "who": voter, "now": now})


def check_given(connection: Connection, *, pair_id: int, voter: int) -> None:
    """Raises UnknownItem for a pair that is none, NotGiven for one that somebody never got."""
    if connection.scalar(GIVEN, {"pair": pair_id, "who": voter}) is not None:
        return
    if connection.scalar(select(pairs.c.id).where(pairs.c.id == pair_id)) is None:
        raise UnknownItem(f"there is no pair {pair_id}")
    raise NotGiven(f"pair {pair_id} was not given to you; ask for the next pair")


def answer_of(connection: Connection, *, pair_id: int, side: str, voter: int) -> int:
    """The answer on a side of a pair; raises as `check_given`."""
    check_given(connection, pair_id=pair_id, voter=voter)
    return int(connection.scalars(select(pairs.c[side]).where(pairs.c.id == pair_id)).one())


def _held(connection: Connection, voter: int, now: float, count: int) -> list[int]:
    mine = (
        select(leases.c.pair_id)
        .where(leases.c.voter == voter, leases.c.until > now, ~_has_voted(voter, leases.c.pair_id))
        .order_by(leases.c.pair_id)
        .limit(count)
    )
    return list(connection.scalars(mine))


def _new(
    connection: Connection, voter: int, now: float, count: int, domain: str | None
) -> list[int]:
    """Pairs that somebody did not have before, gold questions at their places among them."""
    if count < 1:
        return []
    before = connection.scalar(
        select(func.count()).select_from(leases).where(leases.c.voter == voter)
    )
    places = range(int(before or 0), int(before or 0) + count)
    turns = [place % GOLD_EVERY == GOLD_EVERY // 2 for place in places]
    free, is_gold = _free(voter, now, domain), pairs.c.purpose == "gold"
    gold = _first(connection, free.where(is_gold), sum(turns))
    others = _first(connection, free.where(~is_gold), count - len(gold))
    return _interleaved(turns, gold, others)


def _interleaved(turns: Sequence[bool], gold: list[int], others: list[int]) -> list[int]:
    """A gold question where it is one's turn, as long as there are any."""
    found = []
    for turn in turns:
        source = gold if turn and gold else others
        if source:
            found.append(source.pop(0))
    return found + gold


def _first(connection: Connection, free: Select[Any], count: int) -> list[int]:
    """The first pairs that are free, locked until the transaction ends."""
    found: list[int] = []
    lost: list[int] = []
    while len(found) < count:
        rest = free.where(pairs.c.id.not_in(found + lost)).order_by(pairs.c.id)
        some = rest.limit(count - len(found)).with_for_update(skip_locked=True, of=pairs)
        locked = list(connection.scalars(some))
        if not locked:
            break
        if connection.dialect.name == "sqlite":
            return locked  # Nobody else writes meanwhile.
        # Others may have been given some between the statement's snapshot and the lock.
        still = set(connection.scalars(free.where(pairs.c.id.in_(locked))))
        found += [pair_id for pair_id in locked if pair_id in still]
        lost += [pair_id for pair_id in locked if pair_id not in still]
    return found


def _free(voter: int, now: float, domain: str | None) -> Select[Any]:
    """The pairs that somebody may get."""
    holders = (
        select(func.count())
        .select_from(leases)
        .where(
            leases.c.pair_id == pairs.c.id,
            or_(leases.c.until > now, _has_voted(leases.c.voter, pairs.c.id, skips=False)),
        )
        .scalar_subquery()
    )
    holds = exists().where(
        leases.c.pair_id == pairs.c.id, leases.c.voter == voter, leases.c.until > now
    )
    has_voted = _has_voted(voter, pairs.c.id)
    query = select(pairs.c.id).where(pairs.c.open, ~holds, ~has_voted, holders < pairs.c.needs)
    if domain is None:
        return query
    of_domain = and_(prompts.c.id == pairs.c.prompt_id, prompts.c.domain == domain)
    return query.where(exists().where(of_domain))


def _has_voted(voter: Any, pair_id: Any, *, skips: bool = True) -> ColumnElement[bool]:
    found = exists().where(
        votes.c.pair_id == pair_id, votes.c.voter == voter, votes.c.retracted_at.is_(None)
    )
    return found if skips else found.where(votes.c.verdict != "skip")


def _shown(connection: Connection, given: Sequence[int], until: float) -> Iterator[ShownPair]:
    left, right = answers.alias("left_answer"), answers.alias("right_answer")
    query = (
        select(
            pairs.c.id, prompts.c.domain, prompts.c.messages,
            left.c.text.label("a"), right.c.text.label("b"),
        )
        .join(prompts, prompts.c.id == pairs.c.prompt_id)
        .join(left, left.c.id == pairs.c.a)
        .join(right, right.c.id == pairs.c.b)
        .where(pairs.c.id.in_(given))
    )  # fmt: skip
    rows = {row.id: row for row in connection.execute(query)}
    for pair_id in given:
        row = rows[pair_id]
        yield ShownPair(row.id, row.domain, row.messages, row.a, row.b, until)
