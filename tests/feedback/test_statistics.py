"""Who agrees, who differs, whose votes are unusual by more than chance, and what has changed."""

import random
from dataclasses import replace

import pytest
from scipy.stats import binomtest, fisher_exact

from fastslow.feedback import decisions, ledger, people, planning, voting
from fastslow.feedback.chance import one_sided, so_few
from fastslow.feedback.disputes import LONGEST, MOST
from fastslow.feedback.marks import NEWEST, marks
from fastslow.feedback.remarks import CHANCE, remarks
from fastslow.feedback.statistics import statistics
from fastslow.feedback.voters import Person


def found(town):
    with town.store.read() as connection:
        return statistics(connection, now=town.now)


def ask(town, text, verdicts, **facts):
    """A pair on which voters say so, in order; None says nothing."""
    needs = {} if facts.get("purpose") == "gold" else {"needs": len(verdicts)}
    pair = town.pair(text, **needs, **facts)
    for voter, verdict in zip(town.voters, verdicts, strict=True):
        if verdict is not None:
            assert pair in [one.id for one in town.next(voter, count=20)]
            town.vote(voter, pair, verdict)
    return pair


def test_agreement_is_with_what_most_others_said(town):
    town.voters += [town.person("third"), town.person("fourth")]
    ask(town, "one", ("a", "a", "b", None))
    ask(town, "two", ("a", "b", "a", "b"))
    ask(town, "alone", ("a", None, None, None))
    told = found(town)
    numbers = {one.id: (one.shared, one.agreed, one.compared) for one in told.people}
    # Of the first pair the two who agree have each a split jury; of the second all are outvoted.
    assert [numbers[voter] for voter in town.voters] == [(1, 0, 3), (1, 0, 2), (2, 0, 2), (1, 0, 1)]
    ask(town, "three", ("a", "a", "a", "tie"))
    numbers = {one.id: (one.shared, one.agreed) for one in found(town).people}
    assert [numbers[voter] for voter in town.voters] == [(2, 1), (2, 1), (3, 1), (2, 0)]


def test_pairs_on_which_people_differ_come_with_their_texts_the_widest_apart_first(town):
    town.voters += [town.person("third"), town.person("fourth")]
    ask(town, "all the same", ("a", "a", "a", "a"))
    even = ask(town, "even", ("a", "a", "b", "b"))
    long = ask(town, "x" * 3000, ("a", "a", "a", "b"), first="y" * 3000)
    ask(town, "gold", ("a", "b", "a", "b"), purpose="gold", gold_verdict="a")
    gone = ask(town, "taken back", ("a", "b", None, None))
    with town.store.read() as connection:
        own = voting.votes.c
        query = voting.select(own.id).where(own.pair_id == gone, own.voter == town.voters[1])
        number = connection.scalar(query)
    town.write(voting.retract, voter=town.voters[1], vote_id=number)
    told = found(town).disagreement
    assert (told.shared, told.differ) == (3, 2)
    assert [one.pair_id for one in told.pairs] == [even, long]
    assert told.pairs[0].verdicts == {"a": 2, "b": 2} and told.pairs[0].prompt == "even"
    assert {told.pairs[0].a, told.pairs[0].b} == {"good", "bad"}
    cut = told.pairs[1]
    assert len(cut.prompt) == LONGEST + 2 == max(len(cut.a), len(cut.b))
    for number in range(MOST):
        ask(town, f"more {number}", ("tie", "b", None, None))
    told = found(town).disagreement
    assert told.differ == MOST + 2 and len(told.pairs) == MOST
    assert told.pairs[-1].pair_id > long, "of those as far apart the newest are shown"


def test_votes_that_came_too_soon_to_be_read_are_counted(town):
    voter = town.voters[0]
    for number in range(12):
        pair = town.pair(f"{number}", "word " * 20, "other " * 20)
        town.next(voter)
        town.vote(voter, pair, "ab"[number % 2], seen_ms=3 if number < 6 else 9000)
    town.now += 100
    town.write(ledger.admit, check=lambda row: None)
    told = found(town)
    (person,) = [one for one in told.people if one.id == voter]
    assert (person.unread, person.compared) == (6, 12)
    (remark,) = told.remarks
    assert remark.person_id == voter
    assert remark.said == [
        "6 of 12 votes were sent too soon to have read both answers; these are not learned"
    ]


def person(number, **facts):
    nothing = dict.fromkeys(
        ("sent", "gold", "gold_right", "shared", "agreed", "left", "decided", "unread"), 0
    )
    known = {"id": number, "name": f"p{number}", "role": "annotator", "disabled": False}
    return Person(**{**known, **nothing, "median_seen_s": None, "compared": 100, **facts})


def test_who_differs_by_more_than_chance_is_named_with_the_numbers():
    usual = {"gold": 50, "gold_right": 46, "shared": 80, "agreed": 64, "left": 52, "decided": 100}
    crowd = [person(number, **usual) for number in range(5)]
    assert remarks(crowd) == []
    odd = person(9, gold=20, gold_right=9, shared=60, agreed=20, left=95, decided=100)
    (remark,) = remarks([*crowd, odd])
    assert remark.name == "p9" and len(remark.said) == 3
    assert remark.said[0].startswith("right on 9 of 20 gold questions, others on 230 of 250 (p = ")
    assert remark.said[1].startswith(
        "agreed with most others on 20 of 60 pairs, others on 320 of 400"
    )
    assert remark.said[2].startswith("chose the left answer in 95 of 100 votes")
    assert remarks([*crowd, replace(odd, disabled=True)]) == []
    assert remarks([odd])[0].said == remark.said[2:], "alone, only the sides tell"


def test_of_many_who_vote_alike_hardly_anybody_is_named():
    draw = random.Random(5)

    def one(number):
        hits = [sum(draw.random() < rate for _ in range(60)) for rate in (0.9, 0.7, 0.5)]
        return person(number, gold=60, gold_right=hits[0], shared=60, agreed=hits[1],
                      left=hits[2], decided=60)  # fmt: skip

    named = sum(bool(remarks([one(number) for number in range(20)])) for _ in range(100))
    assert named <= 3, f"expected in {3 * CHANCE:.1%} of the crowds"


@pytest.mark.parametrize("numbers", [(12, 40, 202, 250), (0, 4, 4, 8), (400, 1000, 9000, 20_000)])
def test_few_hits_are_as_fishers_test_says(numbers):
    own, of_own, hits, count = numbers
    table = [[own, of_own - own], [hits - own, count - of_own - hits + own]]
    assert so_few(*numbers) == pytest.approx(fisher_exact(table, "less").pvalue, rel=1e-6)


@pytest.mark.parametrize("numbers", [(0, 0, 3, 9), (5, 5, 5, 5), (30, 40, 70, 100), (3, 4, 3, 4)])
def test_no_fewer_hits_than_elsewhere_are_no_reason(numbers):
    assert so_few(*numbers) == 1.0


@pytest.mark.parametrize(("left", "count"), [(58, 60), (2, 60), (30, 60), (0, 0), (3, 20_000)])
def test_sides_are_as_the_binomial_test_says(left, count):
    wanted = binomtest(left, count).pvalue if count else 1.0
    assert one_sided(left, count) == pytest.approx(wanted, rel=1e-6)


def look(town):
    with town.store.read() as connection:
        return marks(connection)


def test_each_kind_of_change_is_told_and_nothing_else(town):
    seen = [look(town)]

    def changed():
        seen.append(look(town))
        return {kind for kind, value in seen[-1].items() if value != seen[-2][kind]}

    voter = town.voters[0]
    assert changed() == set()
    pairs = [town.pair(f"{number}") for number in range(20)]
    assert changed() == {"votes"}
    assert len(town.next(voter, count=20)) == 20
    assert changed() == set(), "who was given what is nobody's news"
    receipts = [town.vote(voter, pair) for pair in pairs]
    assert changed() == {"votes"}
    town.write(voting.retract, voter=voter, vote_id=receipts[0].id)
    assert changed() == {"votes"}
    town.now += 100
    town.write(ledger.admit, check=lambda row: None)
    assert changed() == {"votes"}
    learner = town.store.write(planning.claim)
    with town.store.read() as connection:
        rows = [one.seq for one in planning.waiting(connection, "talk")]
    planned = town.write(planning.plan, learner=learner, domain="talk", rows=rows)
    own = {"learner": learner, "update_id": planned.id}
    assert changed() == {"updates"}
    for state in ("learning", "candidate", "gating"):
        town.store.write(planning.move, state=state, **own)
        assert changed() == {"updates"}
    town.store.write(decisions.wait, gate={}, **own)
    assert changed() == {"updates"}
    town.write(decisions.approve, update_id=planned.id, by=voter)
    assert "updates" in changed()
    town.write(people.set_disabled, principal_id=voter, disabled=True, by=None)
    assert changed() == {"people"}


def test_a_vote_taken_back_after_many_others_is_told_with_the_next(town):
    first = town.pair("first")
    town.next(town.voters[0])
    receipt = town.vote(town.voters[0], first)
    for number in range(NEWEST + 1):
        pair = town.pair(f"{number}")
        town.next(town.voters[1], count=20)
        town.vote(town.voters[1], pair)
    before = look(town)
    town.write(voting.retract, voter=town.voters[0], vote_id=receipt.id)
    assert look(town) == before
    town.pair("next")
    assert look(town) != before
