"""Phrases that a few put in: who is suspected, who is not, and what becomes of their rows."""

from dataclasses import replace

import pytest
from ledgers import P, edits, entry, honest

from fastslow.live.suspects import EDITORS, suspects, voted_for
from fastslow.live.waiting import held_back


def test_a_vote_is_for_what_only_the_preferred_answer_says():
    row = entry(1, 1, "we like the inn", "we like it").row
    assert voted_for(row) == {"the", "inn", "like the", "the inn", "we like the", "like the inn"}
    assert voted_for({**row, "verdict": "tie"}) == set() == voted_for({"completion": []})


def test_nobody_is_suspected_of_a_taste():
    assert suspects(honest(1024), p=P) == []
    assert suspects(honest(1024, voters=200), p=P) == []
    # Some like something else: their votes are for words that fall to all of them.
    other = [
        entry(one.seq + 5000, 50 + one.voter % 3, *_swapped(one)) for one in honest(200, seed=3)
    ]
    assert suspects([*honest(800), *other], p=P) == []


def _swapped(one):
    return one.row["rejected"][0]["content"], one.row["chosen"][0]["content"]


@pytest.mark.parametrize(("count", "voters"), [(8, 1), (20, 5), (20, 20)])
def test_who_puts_a_word_in_is_suspected_alone_or_with_others_who_edit(count, voters):
    added = edits(count, voters)
    found = suspects([*honest(400), *added], p=P)
    assert found and all(one.phrase == "acme" for one in found)
    assert {one.who for one in found} == ({EDITORS, 100} if voters == 1 else {EDITORS})
    said = (
        f"{count} of {count} edits prefer an answer with 'acme' to one without it, but only 0 of 4"
    )
    assert any(said in str(one) for one in found)
    held = held_back([*honest(400), *added], found, {})
    assert {*held} == {one.seq for one in added} and said in held[added[0].seq][-1]


def test_of_a_word_that_all_say_only_who_writes_it_is_suspected():
    """The policy says it by itself, and whoever compares votes for it now and then."""
    found = suspects([*honest(600), *edits(24, 1, word="kind kind")], p=P)
    assert {one.who for one in found} == {EDITORS, 100}
    assert not held_back(honest(600), found, {})


def test_what_was_let_through_is_held_back_no_more_and_what_comes_later_is():
    added = [replace(one, at=float(place)) for place, one in enumerate(edits(20, 2))]
    found = suspects([*honest(400), *added], p=P)
    held = held_back(added, found, {100: 9.0})
    assert {*held} == {one.seq for one in added if one.voter == 101 or one.at > 9}


def test_few_edits_and_various_ones_tell_nothing():
    assert suspects([*honest(400), *edits(4, 1)], p=P) == []
    various = [edits(1, 1, word=f"w{number}", start=9_000 + number)[0] for number in range(30)]
    assert suspects([*honest(400), *various], p=P) == []
    assert suspects([*honest(400), *edits(50, 1)], p=0.0) == []
    assert suspects(edits(50, 1), p=P) == [], "there is nobody to compare with"
