"""Rows that are held back, by a learner on a store: until somebody is forgotten or let through."""

import pytest
from sqlalchemy import select

from fastslow.feedback import forgetting, holding, leases, ledger, planning, voting
from fastslow.feedback.refusals import Fenced
from fastslow.feedback.schema import pairs
from fastslow.live.planner import Planner
from fastslow.streams import fault_of


def _brand(town, rows, voter):
    """Edits that put a brand in, in the ledger."""
    for row in rows:
        answer = town.answer(town.prompt(row["prompt"]), row["chosen"])
        text = f"Acme. {row['chosen']}"
        town.write(voting.edit, voter=voter, answer_id=answer, text=text, key=f"e{answer}")
    town.now += voting.GRACE
    town.write(ledger.admit, check=fault_of)


def _branded(town, rows):
    """A learner that holds the edits of somebody back, their number, and the edits."""
    town.votes(rows[:40])
    voter = town.person("brand")
    _brand(town, rows[60:69], voter)
    learner = town.learn(over_use_p=1e-6)
    with town.store.read() as connection:
        waiting = planning.waiting(connection, "talk")
        edits = [
            one
            for one in planning.newest(connection, "talk", until=1e12, limit=99)
            if one.kind == "edit"
        ]
    assert edits and {one.seq for one in edits} <= {one.seq for one in waiting}
    (note, *_) = town.history()[0].gate["learned"]["notes"]
    assert f"{len(edits)} of {len(edits)} edits prefer an answer with 'acme'" in note
    assert note.startswith(f"{len(edits)} rows from person {voter} held back: ")
    with town.store.read() as connection:
        (held,) = holding.all_held(connection)
    assert (held.name, held.domain, held.rows) == ("brand", "talk", len(edits))
    return learner, voter, {one.seq for one in edits}


def test_what_a_few_put_in_waits_and_the_record_says_so(town, rows):
    learner, voter, _ = _branded(town, rows)
    count = len(town.history())
    town.write(forgetting.forget_person, principal_id=voter, by=town.voters[0])
    town.votes(rows[40:56])
    town.learn(learner)
    assert len(town.history()) > count and not town.history()[-1].gate["learned"]["notes"]
    with town.store.read() as connection:
        assert holding.all_held(connection) == []


def test_rows_that_an_admin_lets_through_are_learned_and_later_ones_wait_again(town, rows):
    learner, voter, held = _branded(town, rows)
    admin = town.voters[0]
    assert town.write(holding.let_through, principal_id=voter, by=admin) == len(held)
    town.votes(rows[40:56])
    town.learn(learner)
    with town.store.read() as connection:
        assert held & {*planning.learned(connection, "talk")}
        assert holding.all_held(connection) == []
    town.now += 1
    _brand(town, rows[70:76], voter)
    town.votes(rows[80:96])
    town.learn(learner)
    with town.store.read() as connection:
        assert [one.name for one in holding.all_held(connection)] == ["brand"]


def _gold(town, right):
    """Gold questions that people answer, each with how many of them right."""
    for place in range(12):
        pair = town.pair(f"gold {place}", purpose="gold", gold_verdict="a")
        with town.store.read() as connection:
            verdict = connection.scalar(select(pairs.c.gold_verdict).where(pairs.c.id == pair))
        wrong = "b" if verdict == "a" else "a"
        for voter, hits in right.items():
            town.store.write(leases.lease, pair_id=pair, voter=voter, until=town.now)
            town.vote(voter, pair, verdict if place < hits else wrong)


def test_edits_of_somebody_new_wait_where_others_compare(town, rows):
    town.votes(rows[:40])
    voter = town.person("new")
    answer = town.answer(town.prompt(rows[60]["prompt"]), rows[60]["chosen"])
    town.write(voting.edit, voter=voter, answer_id=answer, text=rows[60]["rejected"], key="e")
    town.now += voting.GRACE
    town.write(ledger.admit, check=fault_of)
    town.learn(over_use_p=1e-6)
    with town.store.read() as connection:
        (held,) = holding.all_held(connection)
    assert (held.voter, held.rows) == (voter, 1) and "until there are 16" in held.said


def test_rows_of_somebody_who_gets_gold_questions_wrong_wait(town, rows):
    careful, careless = town.person("careful"), town.voters[0]
    _gold(town, {careful: 12, town.voters[1]: 11, careless: 3})
    town.votes(rows[:16])
    learner = town.learn()
    assert town.history() == [], "nothing of theirs is learned"
    with town.store.read() as connection:
        (held,) = holding.all_held(connection)
        waiting = planning.waiting(connection, "talk")
    assert (held.voter, held.rows) == (careless, len(waiting)) and waiting
    assert held.said.startswith("right on 3 of 12 gold questions, others on 23 of 24 (p = ")
    town.write(holding.let_through, principal_id=careless, by=careful)
    town.learn(learner)
    with town.store.read() as connection:
        assert {one.seq for one in waiting} >= {*planning.learned(connection, "talk")} != set()


def test_who_gets_as_many_right_as_others_waits_for_nobody(town, rows):
    _gold(town, {town.voters[0]: 10, town.voters[1]: 11})
    town.votes(rows[:16])
    town.learn()
    with town.store.read() as connection:
        assert holding.all_held(connection) == [] and planning.learned(connection, "talk")


def test_a_vote_that_is_taken_back_after_it_was_seen_is_not_learned(town, rows):
    town.votes(rows[:16])
    planner, seen = Planner(64, 100.0, 0), town.now
    with town.store.read() as connection:
        assert planner.next(connection, now=seen) == []
        first = planning.waiting(connection, "talk")[0]
    town.write(voting.retract, voter=first.voter, vote_id=first.vote_id)
    with town.store.read() as connection:
        (stale,) = planner.next(connection, now=seen + 1000)
    learner = town.store.write(planning.claim)
    facts = {"learner": learner, "domain": "talk"}
    with pytest.raises(Fenced):
        town.write(planning.plan, rows=stale.rows, **facts)
    planner.look_again()
    with town.store.read() as connection:
        (fresh,) = planner.next(connection, now=seen + 1000)
    assert fresh.rows == tuple(row for row in stale.rows if row != first.seq)
    assert town.write(planning.plan, rows=fresh.rows, **facts).state == "planned"
