"""Somebody is forgotten: what is learned is what would have been learned without them."""

import shutil

import pytest

from fastslow.feedback import (
    Malformed,
    decisions,
    forgetting,
    leases,
    ledger,
    planning,
    updates,
    voting,
)
from fastslow.streams import fault_of


def votes(town, rows, voters):
    """Votes on the rows' pairs by those that are given, in turn; None leaves a pair alone."""
    for number, row in enumerate(rows):
        pair = town.pair(row["prompt"], row["chosen"], row["rejected"])
        voter = voters[number % len(voters)]
        if voter is None:
            continue
        town.store.write(leases.lease, pair_id=pair, voter=voter, until=town.now)
        with town.store.read() as connection:
            (shown,) = leases._shown(connection, [pair], 0.0)
        town.vote(voter, pair, "a" if shown.a == row["chosen"] else "b")
    admit(town)


def admit(town):
    town.now += voting.GRACE
    while (found := town.write(ledger.admit, check=fault_of)).rows or found.retracted:
        pass


def forget(town, person):
    return town.write(forgetting.forget_person, principal_id=person, by=town.voters[0])


def rows_of(town, numbers):
    with town.store.read() as connection:
        return {row.voter for one in numbers for row in updates.rows_of(connection, one)}


def answering(town):
    """The chain from the base to what answers."""
    return [one for one in town.history() if one.state in updates.SERVED]


@pytest.mark.parametrize("late", [0, pytest.param(30, marks=pytest.mark.slow)])
def test_what_is_learned_again_is_what_would_have_been_learned_without_them(make_town, rows, late):
    with_them, without = make_town("with"), make_town("without")
    ann, bob = with_them.voters
    for town, who in ((with_them, [ann, bob]), (without, [ann, None])):
        votes(town, rows[:late], [ann])  # These come before anything of the other's.
        votes(town, rows[late : late + 48], who)
    first = with_them.learn()
    before = answering(with_them)
    assert {ann, bob} == rows_of(with_them, [one.id for one in before])
    done = forget(with_them, bob)
    assert done.votes == 24
    kept = [one for one in before if one.id not in done.updates]
    assert len(kept) == len(before) - len(done.updates) and (late == 0) == (not kept)
    assert with_them.route().update_id == (kept[-1].id if kept else None)
    admit(with_them)
    with_them.learn(first)
    without.learn()
    found, expected = answering(with_them), answering(without)
    assert len(found) == len(expected) > 2
    assert [with_them.weights(one) for one in found] == [without.weights(one) for one in expected]
    assert rows_of(with_them, [one.id for one in found]) == {ann}
    left = {path.name for path in (with_them.folder / "adapters").iterdir()}
    assert not left & {one.adapter for one in before if one.id in done.updates}


def on_disk(town):
    """Updates of which there is an adapter, or a checkpoint."""
    adapters = (town.folder / "adapters").glob("*-u*-*")
    kept = (town.folder / "domains").glob("*/u*")
    return {int(one.name.split("-u")[1].split("-")[0]) for one in adapters}, {
        int(one.name[1:]) for one in kept
    }


@pytest.mark.parametrize("decided", [decisions.discard, decisions.roll_back, None])
def test_nothing_that_learned_from_them_is_left_on_disk(town, rows, decided):
    """Set aside or not, and where nothing is left to learn."""
    ann, bob = town.voters
    votes(town, rows[:30], [bob])
    learner = town.learn()
    last = town.history()[-1].id
    if decided is not None:
        town.write(decisions.roll_back, update_id=last, by=ann)
    if decided is decisions.discard:
        town.write(decisions.discard, update_id=last, by=ann)
    assert last in on_disk(town)[0] & on_disk(town)[1]
    forget(town, bob)
    learner.once(print)
    assert on_disk(town) == (set(), set())


def test_what_was_learned_meanwhile_is_not_left_on_disk_either(town, rows):
    ann, bob = town.voters
    votes(town, rows[:30], [bob])
    learner = town.learn()
    made = town.history()[-1]
    adapter = town.folder / "adapters" / made.adapter
    as_before = adapter.with_name(adapter.name.replace(f"-u{made.id}-", f"-u{made.id + 1}-"))
    votes(town, rows[30:60], [bob])
    town.write(planning.plan, learner=1, domain="talk", rows=town.waiting()[:8])
    shutil.copytree(adapter, as_before)
    forget(town, bob)
    learner.once(print)
    assert on_disk(town) == (set(), set())


def test_nothing_of_them_is_planned_before_the_ledger_says_so(town, rows):
    ann, bob = town.voters
    votes(town, rows[:20], [ann, bob])
    assert forget(town, bob).updates == []
    with town.store.read() as connection:
        assert {row.voter for row in planning.waiting(connection, "talk")} == {ann}


def test_an_update_that_is_on_the_way_is_given_back(town, rows):
    ann, bob = town.voters
    votes(town, rows[:30], [ann, bob])
    learner = town.store.write(planning.claim)
    planned = town.write(planning.plan, learner=learner, domain="talk", rows=town.waiting()[:8])
    forget(town, bob)
    assert town.history()[0].state == "released" and planned.id == town.history()[0].id


def test_where_what_was_before_them_is_not_kept_it_begins_earlier(town, rows):
    ann, bob = town.voters
    town.live = {"keep": 1}
    votes(town, rows[:20], [ann])
    town.learn()
    votes(town, rows[20:60], [ann, bob])
    town.learn()
    forget(town, bob)
    assert town.route().update_id is None


def test_nobody_forgets_oneself(town):
    with pytest.raises(Malformed, match="cannot disable yourself"):
        forget(town, town.voters[0])
    assert town.history() == []
