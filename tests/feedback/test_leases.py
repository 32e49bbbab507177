"""Who is given which pair."""

import itertools
import random
import threading
from collections import Counter

import pytest
from sqlalchemy import select
from town import Town

from fastslow.feedback import Store, items, leases, people, voting
from fastslow.feedback.schema import pairs, votes


def test_nobody_gets_what_another_compares_until_the_lease_is_over(town):
    ann, bob = town.voters
    first, second = town.pair("one"), town.pair("two")
    assert [one.id for one in town.next(ann)] == [first]
    assert [one.id for one in town.next(bob, count=2)] == [second]
    town.now += leases.LEASE + 1
    assert [one.id for one in town.next(bob, count=2)] == [first, second]


def test_what_was_given_comes_again_until_it_is_voted_on(town):
    ann = town.voters[0]
    first, second = town.pair("one"), town.pair("two")
    assert [one.id for one in town.next(ann)] == [one.id for one in town.next(ann)] == [first]
    town.vote(ann, first)
    assert [one.id for one in town.next(ann)] == [second]


def test_a_pair_goes_to_as_many_people_as_it_needs(town):
    pair = town.pair(needs=2)
    people_ = [*town.voters, town.person("third")]
    assert [[one.id for one in town.next(who)] for who in people_] == [[pair], [pair], []]
    town.vote(people_[0], pair)
    assert town.next(people_[2]) == []


def test_a_skip_is_no_verdict_and_others_get_the_pair(town):
    ann, bob = town.voters
    pair = town.pair()
    town.next(ann)
    town.vote(ann, pair, "skip")
    assert town.next(ann) == [] and [one.id for one in town.next(bob)] == [pair]


def test_what_everybody_here_has_skipped_does_not_keep_new_pairs_from_being_made(town):
    made = [town.pair(f"{number}") for number in range(3)]
    town.pair("gold", purpose="gold", gold_verdict="a")

    def new(most=9):
        with town.store.read() as connection:
            return items.new_pairs(connection, most=most)

    assert new() == 3 and new(most=2) == 2
    for voter in town.voters:
        town.next(voter, count=3)
        for pair in made[:2]:
            town.vote(voter, pair, "skip")
    assert new() == 0


def test_one_in_twenty_is_a_gold_question(town):
    ann = town.voters[0]
    gold = {town.pair(f"gold {n}", purpose="gold", gold_verdict="a") for n in range(3)}
    ordinary = {town.pair(f"{n}") for n in range(60)}
    given = []
    for _ in range(40):
        (shown,) = town.next(ann)
        town.vote(ann, shown.id)
        given.append(shown.id)
    assert sum(one in gold for one in given) == 2 and set(given) <= gold | ordinary
    with town.store.read() as connection:
        still = connection.scalars(select(pairs.c.open).where(pairs.c.id.in_(gold)))
        assert all(still), "a gold question is for everyone"


def test_a_pair_goes_to_others_when_its_lease_is_over_whatever_its_holder_did_elsewhere(town):
    ann, bob = town.voters
    first, second = town.pair("one"), town.pair("two")
    assert [one.id for one in town.next(ann, count=2)] == [first, second]
    town.vote(ann, first)
    assert town.next(bob) == []
    town.now += leases.LEASE + 1
    assert [one.id for one in town.next(bob)] == [second]
    assert town.next(ann) == []


def test_gold_questions_keep_their_share_over_many_requests_of_several(town):
    ann = town.voters[0]
    gold = {town.pair(f"gold {n}", purpose="gold", gold_verdict="a") for n in range(9)}
    for number in range(110):
        town.pair(f"{number}")
    given = []
    while len(given) < 100:
        shown = town.next(ann, count=4)
        town.now += 1
        for one in shown:
            town.vote(ann, one.id)
        given += [one.id for one in shown]
    places = [place for place, one in enumerate(given) if one in gold]
    # Those of one request have come at the same time, in any order.
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert places[0] == 10 and len(gaps) == 4 and set(gaps) <= {17, 18, 19, 20}


def test_sides_are_by_chance_and_gold_follows_them(town):
    made = [
        town.pair(f"{n}", "right", "wrong", purpose="gold", gold_verdict="a") for n in range(40)
    ]
    with town.store.read() as connection:
        shown = [*leases._shown(connection, made, 0.0)]
        verdicts = list(connection.scalars(select(pairs.c.gold_verdict).order_by(pairs.c.id)))
    sides = ["a" if one.a == "right" else "b" for one in shown]
    assert sides == verdicts and 10 < sides.count("a") < 30


def test_a_domain_can_be_asked_for(town):
    town.pair("one", domain="x")
    wanted = town.pair("two", domain="y")
    assert [one.id for one in town.next(town.voters[0], domain="y")] == [wanted]


def test_what_was_given_comes_again_only_where_its_domain_is_asked_for(town):
    ann = town.voters[0]
    code, poem = town.pair("one", domain="code"), town.pair("two", domain="poems")
    for domain, given in (("code", [code]), ("poems", [poem]), ("code", [code]), ("talk", [])):
        assert [one.id for one in town.next(ann, domain=domain)] == given
    assert [one.id for one in town.next(ann, count=2)] == [code, poem]


def test_gold_questions_are_of_the_domain_that_is_asked_for(town):
    """Another one would give itself away."""
    ann = town.voters[0]
    code, poem = (
        town.pair("gold", domain=domain, purpose="gold", gold_verdict="a")
        for domain in ("code", "poems")
    )
    made = {town.pair(f"{number}", domain="poems") for number in range(30)}
    given = set()
    while found := town.next(ann, domain="poems"):
        given |= {one.id for one in found}
        for one in found:
            town.vote(ann, one.id)
    assert given == {*made, poem} and code not in given


@pytest.mark.parametrize("count", [300, pytest.param(1000, marks=pytest.mark.slow)])
def test_fifty_people_on_a_thousand_pairs_share_none(store, count):
    """Each pair needs one verdict: everyone takes, votes and takes on, all at once."""
    town = Town(store, voters=50)
    prompt = town.prompt()
    both = [town.answer(prompt, text) for text in ("good", "bad")]

    def fill(connection):
        for _ in range(count):
            values = {"prompt_id": prompt, "a": both[0], "b": both[1], "purpose": "learn",
                      "open": True, "needs": 1, "at": 0.0}  # fmt: skip
            connection.execute(pairs.insert().values(values))

    store.write(fill)
    given, taken = Counter(), threading.Lock()

    def work(voter):
        draw = random.Random(voter)
        while shown := town.next(voter, count=draw.choice((1, 2, 5))):
            for one in shown:
                town.vote(voter, one.id, key=f"{voter}-{one.id}")
                with taken:
                    given[one.id] += 1

    threads = [threading.Thread(target=work, args=(voter,)) for voter in town.voters]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(given) == count and set(given.values()) == {1}
    with store.read() as connection:
        assert len(connection.scalars(select(votes.c.id)).all()) == count


def test_two_processes_worth_of_writers_share_no_lease(where):
    with Store(where) as one, Store(where) as other:
        town = Town(one, voters=8)
        for number in range(40):
            town.pair(f"prompt {number}")
        given = Counter()

        def work(store, voter):
            while shown := store.write(leases.next_pairs, voter=voter, now=town.now):
                given[shown[0].id] += 1
                store.write(
                    voting.vote, voter=voter, pair_id=shown[0].id, verdict="a",
                    key=f"{shown[0].id}", now=town.now,
                )  # fmt: skip

        threads = [
            threading.Thread(target=work, args=((one, other)[place % 2], voter))
            for place, voter in enumerate(town.voters)
        ]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(given) == 40 and set(given.values()) == {1}


def test_tokens_are_worth_something_until_they_are_taken_away(town):
    who, token = town.write(people.add_principal, name="eve", role="admin")
    with town.store.read() as connection:
        assert people.principal_of(connection, token) == who
        assert people.principal_of(connection, token + "x") is None
    other = town.write(people.new_token, principal_id=who.id, by=None)
    with town.store.read() as connection:
        assert people.principal_of(connection, token) is None
        assert people.principal_of(connection, other) == who
    town.write(people.set_disabled, principal_id=who.id, disabled=True, by=None)
    with town.store.read() as connection:
        assert people.principal_of(connection, other) is None


@pytest.mark.parametrize("text", ["store.db", "store.db-wal"])
def test_no_token_is_on_disk(tmp_path, text):
    with Store(tmp_path / "live") as store:
        _, token = store.write(people.add_principal, name="eve", role="admin", now=0.0)
        assert token.encode() not in (tmp_path / "live" / text).read_bytes()


def test_the_next_pair_is_found_without_reading_all_of_them(tmp_path):
    """The plan goes through an index in order, and sorts nothing."""
    with Store(tmp_path / "live") as store, store.read() as connection:
        for query in (leases.FREE, leases.GOLD):
            text = query.compile(connection, compile_kwargs={"render_postcompile": True})
            facts = {"who": 1, "now": 0.0, "count": 4}
            given = [facts.get(name, text.params[name]) for name in text.positiontup]
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", tuple(given))
            said = " ".join(row[-1] for row in plan)
            assert "SCAN pairs" not in said and "TEMP B-TREE FOR ORDER BY" not in said, said
