"""Who rates by a rule of their own: who is found, who is not, and by which words."""

import math
import random
from dataclasses import replace

import pytest
from ledgers import edits, entry, honest, rating, ratings

from fastslow.live.own_rules import RATERS, own_rules
from fastslow.live.waiting import held_back

P = 1e-5


def test_who_rates_by_a_few_words_is_found_and_the_words_are_named():
    added = ratings(40)
    (theirs,) = own_rules([*honest(400), *added], p=P)
    assert theirs.who == 100, "and not all who rate besides, as there is nobody else"
    assert {"inn", "there"} == {*theirs.words[:2]}
    assert theirs.own == theirs.of_own > 30 and theirs.others < 0.6 * theirs.of_others
    said = f"words predict {theirs.own} of {theirs.of_own} votes by person 100 (mostly 'inn', "
    assert str(theirs).replace("'there', 'inn'", "'inn', 'there'").startswith(said)
    held = held_back([*honest(400), *added], [theirs], {})
    assert {*held} == {one.seq for one in added}


def test_many_who_rate_alike_are_found_together():
    added = ratings(48, voters=24)
    (found,) = own_rules([*honest(400), *added], p=P)
    assert found.who == RATERS and f"{found.own} of {found.of_own} ratings (mostly " in str(found)
    assert {*held_back(added, [found], {})} == {one.seq for one in added}


def test_who_votes_by_a_rule_without_rating_is_found_too():
    theirs = honest(50, voters=1, liked=("inn",), share=1.0, seed=5)
    theirs = [replace(one, seq=one.seq + 5000, row=one.row | {"voter": 100}) for one in theirs]
    decided = [one for one in theirs if _one_has(one, "inn")]
    found = own_rules([*honest(600), *decided], p=P)
    assert [one.who for one in found] == [100] and found[0].words[0] == "inn"


def _one_has(one, word):
    return sum(word in one.row[key][0]["content"].split() for key in ("chosen", "rejected")) == 1


@pytest.mark.parametrize("share", [0.5, 0.65, 0.75])
def test_a_taste_of_ones_own_is_no_rule_as_people_differ_from_themselves(share):
    for seed in range(20):
        added = ratings(80, seed=seed, share=share)
        assert own_rules([*honest(400), *added], p=P) == []


def test_who_likes_long_answers_or_short_ones_has_no_words_of_their_own():
    draw, rows = random.Random(0), []

    def answer():
        length = int(250 * math.exp(draw.gauss(0, 0.35)))
        return " ".join(f"w{int(5000 ** draw.random())}" for _ in range(length))

    for seq in range(1, 513):
        shorter, longer = sorted([answer(), answer()], key=len)
        likes_long = (seq % 8 < 4) is (draw.random() < 0.9)
        chosen, rejected = (longer, shorter) if likes_long else (shorter, longer)
        rows.append(entry(seq, seq % 8, chosen, rejected))
    assert own_rules(rows, p=P) == []


def test_who_likes_what_all_like_is_not_found_however_surely():
    added = ratings(60, liked=("kind",))
    assert own_rules([*honest(600, share=1.0), *added], p=P) == []


def test_who_is_for_nearly_everything_follows_no_rule():
    added = ratings(40)
    up = [rating(one.seq, 100, one.row["completion"][0]["content"], True) for one in added]
    assert own_rules([*honest(400), *up], p=P) == []
    nearly = [*up[:36], *(replace(one, row=one.row | {"label": False}) for one in up[36:])]
    assert own_rules([*honest(400), *nearly], p=P) == []


def test_few_rows_ties_edits_and_nobody_to_compare_with_tell_nothing():
    assert own_rules([*honest(400), *ratings(14)], p=P) == []
    assert own_rules([*honest(400), *edits(60, 1)], p=P) == [], "`suspects` looks at these"
    assert own_rules(ratings(60), p=P) == []
    assert own_rules([*honest(400), *ratings(60)], p=0.0) == []
    ties = [replace(one, row=one.row | {"verdict": "tie"}) for one in honest(60, voters=1)]
    assert own_rules([*honest(400), *(replace(one, seq=one.seq + 5000) for one in ties)], p=P) == []


def test_each_row_is_told_by_the_others_alone():
    """Words that nobody says twice tell nothing, though they would of the row they are in."""
    once = [
        entry(7000 + place, 100, f"a{place} b{place}", f"c{place} d{place}") for place in range(60)
    ]
    assert own_rules([*honest(400), *once], p=P) == []
