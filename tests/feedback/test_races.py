"""Two processes write at once on PostgreSQL: one transaction is open while the other begins."""

import threading
import time
from functools import partial

import pytest
from sqlalchemy import text
from test_updates import GATE, Lab

from fastslow.feedback import (
    Fenced,
    Malformed,
    NotGiven,
    Store,
    consolidating,
    decisions,
    forgetting,
    items,
    planning,
    voting,
)

PATIENCE = 30


@pytest.fixture
def lab(shared_store):
    with Store(shared_store) as store:
        yield Lab(store)


@pytest.fixture
def other(shared_store, lab):
    """Another process's store."""
    with Store(shared_store) as store:
        yield store


def overlapped(lab, other, early, late):
    """What becomes of two writes, of which the second begins before the first is on disk."""
    inside, go = threading.Event(), threading.Event()

    def held_open(connection):
        found = early(connection, now=lab.now)
        inside.set()
        assert go.wait(PATIENCE)
        return found

    first = lab.store.submit(held_open)
    assert inside.wait(PATIENCE)
    second = other.submit(late, now=lab.now)
    until = time.monotonic() + PATIENCE
    while not second.done() and not waits(lab.store) and time.monotonic() < until:
        time.sleep(0.01)
    go.set()
    return first, second


def waits(store):
    with store.read() as connection:
        return connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))


def deciding(lab, what, update_id):
    return partial(what, update_id=update_id, by=lab.voters[1])


def promoting(lab, update_id):
    def promote(connection, now):
        return decisions.promote(connection, learner=lab.learner, update_id=update_id, gate=GATE)

    return promote


def planning_of(lab, rows):
    return partial(planning.plan, learner=lab.learner, domain="talk", rows=rows)


def voting_on(pair, voter):
    return partial(voting.vote, voter=voter, pair_id=pair, verdict="a", key="k")


def forgetting_of(lab, voter):
    return partial(forgetting.forget_person, principal_id=voter, by=lab.voters[1])


def test_what_is_promoted_while_its_parent_is_undone_is_undone_with_it(lab, other):
    parent = lab.promoted(lab.add(1))
    rows = lab.add(2)
    child = lab.tested(lab.plan(rows))
    first, second = overlapped(
        lab, other, promoting(lab, child.id), deciding(lab, decisions.roll_back, parent.id)
    )
    assert first.result(PATIENCE).update_id == child.id
    assert second.result(PATIENCE).update_id is None
    assert lab.state(child.id) == "released" and lab.waiting() == rows


def test_nothing_is_promoted_whose_parent_is_being_undone(lab, other):
    parent = lab.promoted(lab.add(1))
    rows = lab.add(2)
    child = lab.tested(lab.plan(rows))
    first, second = overlapped(
        lab, other, deciding(lab, decisions.roll_back, parent.id), promoting(lab, child.id)
    )
    assert first.result(PATIENCE).update_id is None
    with pytest.raises(Fenced, match="is released, not gating"):
        second.result(PATIENCE)
    assert lab.route().update_id is None and lab.waiting() == rows


def test_what_is_planned_while_its_parent_is_undone_is_given_back_and_learned_later(lab, other):
    parent = lab.promoted(lab.add(1))
    rows = lab.add(2)
    first, second = overlapped(
        lab, other, planning_of(lab, rows), deciding(lab, decisions.roll_back, parent.id)
    )
    planned = first.result(PATIENCE)
    assert second.result(PATIENCE).update_id is None
    assert lab.state(planned.id) == "released" and lab.resumed() == []
    assert lab.promoted(rows).parent is None


def test_nothing_that_is_planned_while_somebody_is_forgotten_learns_from_them(lab, other):
    rows = lab.add(2)
    first, second = overlapped(
        lab, other, planning_of(lab, rows), forgetting_of(lab, lab.voters[0])
    )
    planned = first.result(PATIENCE)
    assert second.result(PATIENCE).votes >= 2
    assert lab.state(planned.id) == "released" and lab.waiting() == []


def test_of_two_who_decide_at_once_the_later_one_is_told(lab, other):
    found = lab.tested(lab.plan(lab.add(1)))
    lab.wait(found.id)
    first, second = overlapped(
        lab, other, deciding(lab, decisions.approve, found.id),
        deciding(lab, decisions.discard, found.id),
    )  # fmt: skip
    assert first.result(PATIENCE).update_id == found.id
    with pytest.raises(Malformed, match=f"update {found.id} is promoted"):
        second.result(PATIENCE)
    assert lab.state(found.id) == "promoted"


def test_of_two_who_ask_for_a_student_at_once_one_gets_it(lab, other):
    for domain in ("talk", "walk"):
        lab.promoted(lab.add(1, domain), domain)
    ask = partial(consolidating.ask, by=lab.voters[1])
    first, second = overlapped(lab, other, ask, ask)
    number = first.result(PATIENCE).id
    with pytest.raises(Malformed, match=f"consolidation {number} is in progress"):
        second.result(PATIENCE)


def test_who_is_being_forgotten_sends_no_vote_meanwhile(lab, other):
    ann, pair = lab.voters[0], lab.pair()
    lab.next(ann)
    first, second = overlapped(lab, other, forgetting_of(lab, ann), voting_on(pair, ann))
    assert first.result(PATIENCE).votes == 0
    with pytest.raises(NotGiven, match="no longer send anything"):
        second.result(PATIENCE)


def test_a_vote_that_is_sent_while_somebody_is_forgotten_is_taken_back_with_the_others(lab, other):
    ann, pair = lab.voters[0], lab.pair()
    lab.next(ann)
    first, second = overlapped(lab, other, voting_on(pair, ann), forgetting_of(lab, ann))
    assert not first.result(PATIENCE).retracted and second.result(PATIENCE).votes == 1
    assert lab.write(voting_on(pair, ann)).retracted


def is_open(lab):
    with lab.store.read() as connection:
        return items.open_pairs(connection) == 1


def test_a_pair_is_closed_by_its_last_two_votes_at_once(lab, other):
    ann, bob = lab.voters
    pair = lab.pair(needs=2)
    lab.next(ann), lab.next(bob)
    for wait in overlapped(lab, other, voting_on(pair, ann), voting_on(pair, bob)):
        wait.result(PATIENCE)
    assert not is_open(lab)


def test_a_pair_lacks_what_is_being_taken_back_when_the_last_vote_comes(lab, other):
    ann, bob = lab.voters
    pair = lab.pair(needs=2)
    lab.next(ann), lab.next(bob)
    first = lab.vote(ann, pair)
    retract = partial(voting.retract, voter=ann, vote_id=first.id)
    for wait in overlapped(lab, other, retract, voting_on(pair, bob)):
        wait.result(PATIENCE)
    assert is_open(lab)
