"""Which votes are learned next: nobody's above their share, and none are forgotten."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.feedback import decisions, leases, ledger, planning, voting
from fastslow.feedback.ledger import Entry
from fastslow.live.planner import Planner
from fastslow.live.shares import within_shares
from fastslow.streams import fault_of

SHARES = {"newcomers": frozenset(), "of_newcomers": 0.2}


def entries(voters):
    return [
        Entry(seq, "vote", seq, "talk", False, {"voter": voter}, 0.0)
        for seq, voter in enumerate(voters, 1)
    ]


def shares(voters, size, **named):
    return Counter(one.voter for one in within_shares(entries(voters), size, **{**SHARES, **named}))


def test_somebody_alone_may_have_all():
    assert shares([7] * 100, 64) == {7: 64}


def test_of_two_who_vote_one_may_have_nearly_all():
    assert shares([1] * 100 + [2], 10) == {1: 10}


def test_of_ten_nobody_has_more_than_a_fifth_however_much_they_send():
    crowd = [1] * 500 + list(range(2, 11)) * 20
    assert shares(crowd, 50) == {1: 10, 2: 5, 3: 5, 4: 5, 5: 5, 6: 4, 7: 4, 8: 4, 9: 4, 10: 4}


def test_of_a_hundred_nobody_has_more_than_a_twentieth():
    assert shares([1] * 500 + list(range(2, 101)), 100)[1] == 5


def test_made_up_accounts_together_have_a_fifth():
    honest, fake = [1, 2, 3, 4] * 30, list(range(100, 160))
    found = shares(fake + honest, 40, newcomers=set(fake))
    assert sum(found[one] for one in fake) == 8 and found.total() == 40


def test_made_up_accounts_have_more_where_there_can_be_none():
    once = list(range(100, 160))
    assert shares([*once, 1, 2, 3, 4], 40, newcomers=set(once), of_newcomers=1.0).total() == 40


def test_where_all_are_new_all_are_learned_from():
    assert shares([1, 2, 3] * 4, 12, newcomers={1, 2, 3}) == {1: 4, 2: 4, 3: 4}


@given(st.lists(st.integers(1, 6), max_size=80), st.integers(1, 40), st.sets(st.integers(1, 6)))
def test_what_is_chosen_is_in_order_and_within_all_shares(voters, size, newcomers):
    waiting = entries(voters)
    chosen = within_shares(waiting, size, **{**SHARES, "newcomers": newcomers})
    assert [one.seq for one in chosen] == sorted({one.seq for one in chosen})
    assert len(chosen) <= size
    if voters:
        cap = max(-(-size // 20), -(-2 * size // len(set(voters) - newcomers or set(voters))))
        counts = Counter(one.voter for one in chosen)
        assert max(counts.values(), default=0) <= cap
        left = [one for one in waiting if one not in chosen]
        full = len(chosen) == size
        new = sum(counts[one] for one in newcomers)
        assert full or all(
            counts[one.voter] == cap or (one.voter in newcomers and new >= -(-size // 5))
            for one in left
        )


@pytest.fixture
def voted(make_town, rows):
    town = make_town()
    town.votes(rows[:30])
    return town


def planned(town, now, **changes):
    planner = Planner(**{"rows": 8, "max_wait_s": 600.0, "seed": 0, **changes})
    with town.store.read() as connection:
        return planner.next(connection, now=now)


def test_an_update_takes_the_first_rows_that_wait(voted):
    (found,) = planned(voted, voted.now)
    assert found.domain == "talk" and list(found.rows) == voted.waiting()[:8]
    assert found.replayed == ()


def test_few_rows_wait_for_others_and_are_filled_up_after_a_while(voted):
    town = voted
    learner = town.store.write(planning.claim)
    first = town.write(planning.plan, learner=learner, domain="talk", rows=town.waiting()[:-3])
    own = {"learner": learner, "update_id": first.id}
    for state in ("learning", "candidate", "gating"):
        town.store.write(planning.move, state=state, **own)
    town.store.write(decisions.promote, gate={}, **own)
    left = town.waiting()
    assert len(left) == 3 and planned(town, town.now + 599) == []
    (found,) = planned(town, town.now + 600)
    assert list(found.rows) == left and len(found.replayed) == 3, "as many again as are new"
    with town.store.read() as connection:
        assert set(found.replayed) <= set(planning.learned(connection, "talk"))
    assert planned(town, town.now + 600) == [found], "the same seed takes the same rows"
    assert planned(town, town.now + 600, seed=1) != [found]


def test_rows_that_were_given_back_are_found_behind_those_that_were_learned(voted):
    town = voted
    learner = town.store.write(planning.claim)
    planner = Planner(rows=8, max_wait_s=600.0, seed=0)

    def look():
        with town.store.read() as connection:
            (found,) = planner.next(connection, now=town.now)
        return list(found.rows)

    waiting = town.waiting()
    first = look()
    made = town.write(planning.plan, learner=learner, domain="talk", rows=first)
    with town.store.read() as connection:
        assert planner.next(connection, now=town.now) == [], "one is on the way"
    own = {"learner": learner, "update_id": made.id}
    for state in ("learning", "candidate", "gating"):
        town.store.write(planning.move, state=state, **own)
    town.store.write(decisions.quarantine, gate={}, **own)
    assert look() == waiting[8:16]
    town.write(decisions.release, update_id=made.id, by=None)
    assert look() == first


def test_only_domains_in_which_something_has_changed_are_looked_at(town, rows, monkeypatch):
    looked, real = [], Planner._in

    def counted(planner, connection, domain, *rest):
        looked.append(domain)
        return real(planner, connection, domain, *rest)

    monkeypatch.setattr(Planner, "_in", counted)
    planner = Planner(rows=8, max_wait_s=600.0, seed=0)

    def look(now):
        looked.clear()
        with town.store.read() as connection:
            found = planner.next(connection, now=now)
        return sorted(looked), [one.domain for one in found]

    town.votes(rows[:3], "a")
    town.votes(rows[3:6], "b")
    assert look(town.now) == (["a", "b"], [])
    assert look(town.now) == ([], [])
    town.votes(rows[6:8], "b")
    assert look(town.now) == (["b"], [])
    last = town.now
    assert look(last + 600) == (["a", "b"], ["a", "b"])
    assert look(last + 600) == (["a", "b"], ["a", "b"]), "until they are planned"
    learner = town.store.write(planning.claim)
    made = town.write(planning.plan, learner=learner, domain="a", rows=[1])
    assert look(last + 600)[1] == ["b"]
    assert look(last) == (["b"], []), "in the other nothing can be planned"
    for state in ("learning", "candidate", "gating"):
        town.store.write(planning.move, learner=learner, update_id=made.id, state=state)
    town.store.write(decisions.quarantine, learner=learner, update_id=made.id, gate={})
    assert look(last + 601)[1] == ["a", "b"]


def test_ratings_are_learned_too(town):
    answer = town.answer(town.prompt(), "hello")
    town.write(voting.rate, voter=town.voters[0], answer_id=answer, verdict="up", key="1")
    town.now += voting.GRACE
    assert town.write(ledger.admit, check=fault_of).rows == 1
    (found,) = planned(town, town.now + 1e6)
    assert list(found.rows) == town.waiting() == [1]


def test_a_flood_of_made_up_accounts_does_not_hide_others_behind_it(town, rows):
    """It is longer than what is looked at first."""
    made_up = [town.person(f"made up {number}") for number in range(4)]
    for number in range(80):
        answer = town.answer(town.prompt(f"flood {number}"), "hello")
        facts = {"voter": made_up[number % 4], "answer_id": answer, "verdict": "up"}
        town.write(voting.rate, **facts, key=str(number))
    town.votes(rows[:60])
    (found,) = planned(town, town.now)
    with town.store.read() as connection:
        by = {one.seq: one.voter for one in planning.waiting(connection, "talk")}
    assert Counter(by[seq] in made_up for seq in found.rows) == {True: 2, False: 6}


def test_who_has_hardly_voted_is_a_newcomer(voted):
    old, new = voted.voters
    pair = voted.pair("one more", "yes", "no")
    voted.store.write(leases.lease, pair_id=pair, voter=new, until=voted.now)
    voted.vote(new, pair)
    voted.now += voting.GRACE
    voted.write(ledger.admit, check=fault_of)
    with voted.store.read() as connection:
        assert planning.newcomers(connection, [old, new], fewer=20, at=voted.now) == {new}
