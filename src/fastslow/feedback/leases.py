"""Assigns pairs to people: each to as many as it needs verdicts, for a limited time (a lease)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
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
"""Seconds for which nobody else gets a pair in its holder's place."""
GOLD_EVERY = 20
"""One of so many pairs that a person gets is a gold question, while there are any."""
MOST_AT_ONCE = 20


def _has_voted(voter: Any, pair_id: Any, *, skips: bool = True) -> ColumnElement[bool]:
    conditions = (
        votes.c.pair_id == pair_id,
        votes.c.voter == voter,
        votes.c.retracted_at.is_(None),
    )
    # By default SQLAlchemy correlates with the nearest enclosing statement only.
    voted = exists().where(*conditions).correlate_except(votes)
    return voted if skips else voted.where(votes.c.verdict != "skip")


def _free() -> Select[Any]:
    """Statement for the first pairs that `who` may get."""
    holders = (
        select(func.count())
        .select_from(leases)
        .where(
            leases.c.pair_id == pairs.c.id,
            or_(leases.c.until > NOW, _has_voted(leases.c.voter, pairs.c.id, skips=False)),
        )
        .scalar_subquery()
    )
    holds = exists().where(
        leases.c.pair_id == pairs.c.id, leases.c.voter == WHO, leases.c.until > NOW
    )
    return (
        select(pairs.c.id)
        .where(pairs.c.open, ~holds, ~_has_voted(WHO, pairs.c.id), holders < pairs.c.needs)
        .order_by(pairs.c.id)
        .limit(COUNT)
        .with_for_update(skip_locked=True, of=pairs)
    )


def _contents() -> Select[Any]:
    left, right = answers.alias("left_answer"), answers.alias("right_answer")
    return (
        select(
            pairs.c.id, prompts.c.domain, prompts.c.messages,
            left.c.text.label("a"), right.c.text.label("b"),
            left.c.finish.label("a_finish"), right.c.finish.label("b_finish"),
        )
        .join(prompts, prompts.c.id == pairs.c.prompt_id)
        .join(left, left.c.id == pairs.c.a)
        .join(right, right.c.id == pairs.c.b)
        .where(pairs.c.id.in_(bindparam("given", expanding=True)))
    )  # fmt: skip


# Statements are built once, as building one takes longer than SQLite takes to answer it.
WHO: BindParameter[Any] = bindparam("who")
NOW: BindParameter[Any] = bindparam("now")
COUNT: BindParameter[Any] = bindparam("count")
OF_BOTH = (leases.c.pair_id == bindparam("pair"), leases.c.voter == WHO)
GIVEN = select(leases.c.pair_id).where(*OF_BOTH)
RELEASE = update(leases).where(*OF_BOTH, leases.c.until > NOW).values(until=NOW)
LAST_GIVEN = (
    select(pairs.c.purpose)
    .join(leases, leases.c.pair_id == pairs.c.id)
    .where(leases.c.voter == WHO)
    .order_by(leases.c.until.desc())
    .limit(GOLD_EVERY - 1)
)
IN_DOMAIN = exists().where(
    prompts.c.id == pairs.c.prompt_id, prompts.c.domain == bindparam("domain")
)
HELD = (
    select(leases.c.pair_id)
    .where(leases.c.voter == WHO, leases.c.until > NOW, ~_has_voted(WHO, leases.c.pair_id))
    .order_by(leases.c.pair_id)
    .limit(COUNT)
)
HELD_IN_DOMAIN = HELD.join(pairs, pairs.c.id == leases.c.pair_id).where(IN_DOMAIN)
GOLD = _free().where(pairs.c.purpose == "gold")
FREE = _free().where(pairs.c.purpose != "gold")
# A gold question of another domain would give itself away, and ask people who do not know it.
GOLD_IN_DOMAIN, FREE_IN_DOMAIN = GOLD.where(IN_DOMAIN), FREE.where(IN_DOMAIN)
SHOWN = _contents()
LEASE_ROWS = {
    name: made.on_conflict_do_update(
        index_elements=["pair_id", "voter"], set_={"until": made.excluded.until}
    )
    for name, made in (("sqlite", sqlite.insert(leases)), ("postgresql", postgresql.insert(leases)))
}


@dataclass(frozen=True, slots=True)
class ShownPair:
    """A pair as a person sees it: nothing shows where its answers come from."""

    id: int
    domain: str
    messages: Sequence[Mapping[str, Any]]
    a: str
    """Shown on the left."""
    b: str
    truncated: tuple[bool, bool]
    """Whether a length limit cut each answer off."""
    until: float
    """When somebody else may get it, Unix seconds."""


def next_pairs(
    connection: Connection, *, voter: int, now: float, count: int = 1, domain: str | None = None
) -> list[ShownPair]:
    """The first pairs available for somebody to compare; fewer if there are no more.

    Pairs that they hold and have not voted on come first. If a domain is given, all pairs are of
    it, gold questions too. Nobody gets a pair twice, or one that enough others are comparing.
    """
    count = min(count, MOST_AT_ONCE)
    held = _held(connection, voter, now, count, domain)
    numbers = held + _new(connection, voter, now, count - len(held), domain)
    _lease_all(connection, numbers, voter, now + LEASE)
    return list(_shown(connection, numbers, now + LEASE))


def lease(connection: Connection, *, pair_id: int, voter: int, until: float) -> None:
    """Give a pair to somebody, or extend their lease."""
    _lease_all(connection, [pair_id], voter, until)


def _lease_all(connection: Connection, given: Sequence[int], voter: int, until: float) -> None:
    rows = [{"pair_id": pair_id, "voter": voter, "until": until} for pair_id in given]
    if rows:
        connection.execute(LEASE_ROWS[connection.dialect.name], rows)


def release(connection: Connection, *, pair_id: int, voter: int, now: float) -> None:
    """End a lease, so that others can get the pair now."""
    connection.execute(RELEASE, {"pair": pair_id, "who": voter, "now": now})


def check_given(connection: Connection, *, pair_id: int, voter: int) -> None:
    """Raises UnknownItem if there is no such pair, NotGiven if this person never got it."""
    if connection.scalar(GIVEN, {"pair": pair_id, "who": voter}) is not None:
        return
    if connection.scalar(select(pairs.c.id).where(pairs.c.id == pair_id)) is None:
        raise UnknownItem(f"there is no pair {pair_id}")
    raise NotGiven(f"pair {pair_id} was not given to you; ask for the next pair")


def pair_of(connection: Connection, *, pair_id: int, voter: int) -> ShownPair:
    """A pair that somebody was given; raises as `check_given`."""
    check_given(connection, pair_id=pair_id, voter=voter)
    until = connection.scalar(
        select(leases.c.until).where(leases.c.pair_id == pair_id, leases.c.voter == voter)
    )
    (pair,) = _shown(connection, [pair_id], float(until or 0.0))
    return pair


def answer_of(connection: Connection, *, pair_id: int, side: str, voter: int) -> int:
    """The number of the answer on a side of a pair; raises as `check_given`."""
    check_given(connection, pair_id=pair_id, voter=voter)
    return int(connection.scalars(select(pairs.c[side]).where(pairs.c.id == pair_id)).one())


def check_answer_given(connection: Connection, *, answer_id: int, voter: int) -> None:
    """Raises UnknownItem if there is no such answer, NotGiven if this person neither asked for it
    nor got it in a pair."""
    on_a_side = (answers.c.id == pairs.c.a) | (answers.c.id == pairs.c.b)
    in_pair = exists().where(leases.c.voter == voter, leases.c.pair_id == pairs.c.id, on_a_side)
    known = select(answers.c.id).where(answers.c.id == answer_id)
    if connection.scalar(known) is None:
        raise UnknownItem(f"there is no answer {answer_id}")
    if connection.scalar(known.where((answers.c.given_to == voter) | in_pair)) is None:
        raise NotGiven(f"answer {answer_id} was not given to you")


def _held(
    connection: Connection, voter: int, now: float, count: int, domain: str | None
) -> list[int]:
    held = HELD if domain is None else HELD_IN_DOMAIN
    facts = {"who": voter, "now": now, "count": count, "domain": domain}
    return list(connection.scalars(held, facts))


def _new(
    connection: Connection, voter: int, now: float, count: int, domain: str | None
) -> list[int]:
    """Pairs that this person did not have before, with gold questions in their turns."""
    if count < 1:
        return []
    turns = _gold_turns(list(connection.scalars(LAST_GIVEN, {"who": voter})), count)
    facts = {"who": voter, "now": now, "domain": domain}
    known, free = (GOLD, FREE) if domain is None else (GOLD_IN_DOMAIN, FREE_IN_DOMAIN)
    gold = _first(connection, known, facts, sum(turns))
    others = _first(connection, free, facts, count - len(gold))
    return _interleaved(turns, gold, others)


def _gold_turns(last: Sequence[str], count: int) -> list[bool]:
    """Which of the next pairs are to be gold questions, from the purposes of the last ones, newest
    first: one in GOLD_EVERY, the first one halfway."""
    since = last.index("gold") if "gold" in last else len(last) + GOLD_EVERY // 2 - 1
    turns = []
    for _ in range(count):
        turns.append(since >= GOLD_EVERY - 1)
        since = 0 if turns[-1] else since + 1
    return turns


def _interleaved(turns: Sequence[bool], gold: list[int], others: list[int]) -> list[int]:
    """Pairs in order, with a gold question in each of its turns as long as there are any."""
    order = []
    for turn in turns:
        source = gold if turn and gold else others
        if source:
            order.append(source.pop(0))
    return order + gold


def _first(
    connection: Connection, free: Select[Any], facts: Mapping[str, Any], count: int
) -> list[int]:
    """The first free pairs, locked until the transaction ends."""
    free_pairs: list[int] = []
    lost: list[int] = []
    while len(free_pairs) < count:
        some = free.where(pairs.c.id.not_in(free_pairs + lost)) if free_pairs or lost else free
        locked = list(connection.scalars(some, {**facts, "count": count - len(free_pairs)}))
        if connection.dialect.name == "sqlite" or not locked:
            return free_pairs + locked  # With SQLite nobody else writes meanwhile.
        # Others may have got some of them between the statement's snapshot and the lock.
        again = free.where(pairs.c.id.in_(locked))
        still = set(connection.scalars(again, {**facts, "count": len(locked)}))
        free_pairs += [pair_id for pair_id in locked if pair_id in still]
        lost += [pair_id for pair_id in locked if pair_id not in still]
    return free_pairs


def _shown(connection: Connection, given: Sequence[int], until: float) -> Iterator[ShownPair]:
    rows = {row.id: row for row in connection.execute(SHOWN, {"given": given})}
    for pair_id in given:
        row = rows[pair_id]
        truncated = (row.a_finish == "length", row.b_finish == "length")
        yield ShownPair(row.id, row.domain, row.messages, row.a, row.b, truncated, until)
