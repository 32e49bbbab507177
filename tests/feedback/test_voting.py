"""Votes, thumbs and edits: each once, by whom they were given to, and taken back."""

import pytest

from fastslow.feedback import (
    AlreadyVoted,
    KeyReused,
    Malformed,
    NotGiven,
    UnknownItem,
    forgetting,
    people,
    voting,
)


def test_the_same_key_and_body_is_the_same_vote(town):
    ann, bob = town.voters
    pair = town.pair(needs=2)
    town.next(ann), town.next(bob)
    first = town.vote(ann, pair, "a", key="k")
    again = town.vote(ann, pair, "a", key="k")
    assert (again.id, again.repeated, first.repeated) == (first.id, True, False)
    assert town.vote(bob, pair, "b", key="k").id != first.id, "keys are each person's own"


def test_one_key_a_hundred_times_at_once_is_one_vote(town):
    ann, pair = town.voters[0], town.pair()
    town.next(ann)
    said = {"voter": ann, "pair_id": pair, "verdict": "b", "key": "k", "now": town.now}
    futures = [town.store.submit(voting.vote, **said) for _ in range(100)]
    receipts = [future.result() for future in futures]
    assert len({receipt.id for receipt in receipts}) == 1
    assert sum(not receipt.repeated for receipt in receipts) == 1


@pytest.mark.parametrize("changed", [{"verdict": "b"}, {"reason": "why"}, {"pair_id": 99}])
def test_the_same_key_with_another_body_is_refused(town, changed):
    ann, pair = town.voters[0], town.pair()
    town.next(ann)
    said = {"voter": ann, "pair_id": pair, "verdict": "a", "key": "k"}
    town.write(voting.vote, **said)
    with pytest.raises(KeyReused):
        town.write(voting.vote, **{**said, **changed})


def test_a_second_verdict_of_the_same_person_is_refused(town):
    ann, pair = town.voters[0], town.pair(needs=2)
    town.next(ann)
    first = town.vote(ann, pair, "a")
    with pytest.raises(AlreadyVoted, match=f"take back vote {first.id} first"):
        town.vote(ann, pair, "b")


def test_a_vote_that_was_taken_back_can_be_given_again(town):
    ann, pair = town.voters[0], town.pair()
    town.next(ann)
    first = town.vote(ann, pair, "a", key="one")
    assert town.next(town.voters[1]) == [], "it has the verdict it needs"
    town.write(voting.retract, voter=ann, vote_id=first.id)
    assert town.write(voting.retract, voter=ann, vote_id=first.id).retracted
    assert [one.id for one in town.next(ann)] == [pair]
    assert town.vote(ann, pair, "b", key="two").id != first.id
    assert town.vote(ann, pair, "a", key="one").retracted, "the old key is still the old vote"


def test_nobody_takes_back_what_others_sent(town):
    ann, bob = town.voters
    pair = town.pair()
    town.next(ann)
    receipt = town.vote(ann, pair)
    with pytest.raises(UnknownItem):
        town.write(voting.retract, voter=bob, vote_id=receipt.id)


def test_only_who_was_given_a_pair_votes_on_it_and_late_votes_count(town):
    ann, bob = town.voters
    pair = town.pair()
    with pytest.raises(NotGiven):
        town.vote(ann, pair)
    town.next(ann)
    town.now += 10_000
    assert [one.id for one in town.next(bob)] == [pair], "its lease is over"
    town.vote(bob, pair)
    town.vote(ann, pair)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"verdict": "left"}, "one of a, b, tie"),
        ({"key": ""}, "1 to 200"),
        ({"key": "x" * 201}, "1 to 200"),
        ({"reason": "x" * 200_000}, "at most 100,000"),
    ],
)
def test_malformed_votes_are_refused(town, named, said):
    ann, pair = town.voters[0], town.pair()
    town.next(ann)
    with pytest.raises(Malformed, match=said):
        town.write(
            voting.vote, **{"voter": ann, "pair_id": pair, "verdict": "a", "key": "k", **named}
        )


def test_thumbs_and_edits_are_one_each(town):
    ann = town.voters[0]
    answer = town.answer(town.prompt(), "hello")
    on = {"voter": ann, "answer_id": answer}
    up = town.write(voting.rate, **on, verdict="up", key="1")
    assert town.write(voting.rate, **on, verdict="up", key="1").id == up.id
    with pytest.raises(AlreadyVoted):
        town.write(voting.rate, **on, verdict="down", key="2")
    edit = town.write(voting.edit, **on, text="hello!", key="3")
    assert town.write(voting.edit, **on, text="hello!", key="3").id == edit.id
    for text, said in ((" ", "empty"), ("hello", "same as before")):
        with pytest.raises(Malformed, match=said):
            town.write(voting.edit, **on, text=text, key="4")
    with pytest.raises(UnknownItem):
        town.write(voting.rate, voter=ann, answer_id=99, verdict="up", key="5")


def test_who_was_forgotten_sends_nothing_more_until_an_admin_lets_them(town):
    """Another server may know their token for a moment, or their vote is on its way already."""
    ann, bob = town.voters
    pair, answer = town.pair(), town.answer(town.prompt(), "hello")
    town.next(ann)
    waiting = [
        town.store.submit(forgetting.forget_person, principal_id=ann, by=bob, now=town.now),
        town.store.submit(
            voting.vote, voter=ann, pair_id=pair, verdict="a", key="1", now=town.now
        ),
    ]  # fmt: skip
    assert waiting[0].result().votes == 0
    on = {"voter": ann, "answer_id": answer}
    for send in (
        waiting[1].result,
        lambda: town.write(voting.rate, **on, verdict="up", key="2"),
        lambda: town.write(voting.edit, **on, text="hello!", key="3"),
    ):
        with pytest.raises(NotGiven, match="you may no longer send anything"):
            send()
    town.write(people.set_disabled, principal_id=ann, disabled=False, by=bob)
    assert not town.vote(ann, pair, key="1").retracted
