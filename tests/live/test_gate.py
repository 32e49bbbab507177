"""What the gate lets pass: tests by hand, what each catches, and how often it is wrong."""

import dataclasses
import math
import random

import pytest

from fastslow.api.view import Answer
from fastslow.config import GateConfig
from fastslow.feedback.updates import Update
from fastslow.live.gate.answers import no_burst, speaks_well, speech_of
from fastslow.live.gate.check import Check
from fastslow.live.gate.gate import Verdict
from fastslow.live.gate.held_out import WHOLE, keeps_advantage, no_worse
from fastslow.live.gate.statistics import (
    above_zero_by_chance,
    more_often_by_chance,
    worse_by_chance,
)
from fastslow.live.gate.surprise import as_expected

LIMITS = GateConfig()


def loss(margin, beta=0.1):
    return math.log1p(math.exp(-beta * margin))


def judged(candidate, before, **changes):
    settings = {"alpha": 0.02, "fewest": 64, "whom": "the champion", **changes}
    return no_worse("votes", candidate, before, **settings)


def predicted(candidate, before, **changes):
    settings = {"share": 0.75, "alpha": 0.02, "fewest": 64, "whom": "the champion", **changes}
    return keeps_advantage("loss", candidate, before, loss, **settings)


def margins(draw, count, mean=6.0, spread=10.0):
    return [draw.gauss(mean, spread) for _ in range(count)]


def test_mcnemars_test_by_hand():
    """2 won and 8 lost of 10: (45 + 10 + 1) / 1024."""
    assert worse_by_chance(2, 8) == pytest.approx(56 / 1024)
    assert worse_by_chance(0, 0) == 1.0 and worse_by_chance(8, 2) == pytest.approx(1013 / 1024)


def test_fishers_test_by_hand():
    """All 3 of 3 where before 0 of 3: one of the 20 ways to place 3 of 6."""
    assert more_often_by_chance(3, 3, 0, 3) == pytest.approx(1 / 20)
    assert more_often_by_chance(0, 5, 0, 5) == 1.0


def test_students_test_by_hand():
    """1, 2, 3: t = 2 sqrt(3), 2 degrees of freedom."""
    t = 2 * math.sqrt(3)
    assert above_zero_by_chance([1.0, 2.0, 3.0]) == pytest.approx(
        0.5 - t / (2 * math.sqrt(2 + t * t))
    )
    assert above_zero_by_chance([-1.0, 0.0]) == 1.0 and above_zero_by_chance([0.5, 0.5]) == 0.0


def learned(*shares, rows=64):
    """Updates whose rows were predicted in these shares; update 1 is the one before them."""
    return [
        Update(
            number, "talk", number - 1, 0, "promoted",
            gate={"learned": {"rows": rows, "accuracy": share}},
        )
        for number, share in enumerate(shares, 2)
    ]  # fmt: skip


def test_votes_that_contradict_those_before_are_a_surprise():
    before = learned(0.58, 0.66, 0.67, 0.72)
    found = as_expected(20, 64, before, p=1e-3)
    assert not found.passed and found.asks and "0.31 of 64 new votes" in found.said
    assert found.numbers["p"] == pytest.approx(more_often_by_chance(44, 64, 256 - 168, 256))
    assert as_expected(36, 64, before, p=1e-3).passed and as_expected(60, 64, before, p=1e-3).passed
    assert as_expected(0, 64, before, p=0.0).passed, "0 never asks"
    few = as_expected(0, 64, before[:1], p=1e-3)
    assert few.passed and not few.applied


def test_votes_that_the_base_predicted_are_not_compared_with():
    """The base predicts half of any votes."""
    first, later = dataclasses.replace(learned(0.5)[0], parent=None), learned(0.66, 0.70, 0.64)
    found = as_expected(27, 64, [first, *later], p=1e-3)
    assert not found.passed and found.numbers == as_expected(27, 64, later, p=1e-3).numbers
    assert more_often_by_chance(37, 64, 96, 256) > 1e-3


def test_ratings_are_not_counted_as_comparisons_that_were_predicted():
    mixed = [Update(2, "talk", 1, 0, "promoted", gate={"learned": {
        "rows": 640, "judged": 128, "accuracy": 0.75}})]  # fmt: skip
    found = as_expected(30, 64, mixed, p=1e-3)
    assert "0.75 of 128 earlier ones" in found.said
    assert found.numbers["p"] == pytest.approx(more_often_by_chance(34, 64, 32, 128))


def test_of_clean_updates_hardly_any_is_a_surprise():
    draw, asked = random.Random(1), 0
    for _ in range(2000):
        shares = [sum(draw.random() < 0.7 for _ in range(64)) / 64 for _ in range(8)]
        right = sum(draw.random() < 0.7 for _ in range(64))
        asked += not as_expected(right, 64, learned(*shares), p=1e-3).passed
    assert asked / 2000 <= 0.003


def test_what_only_asks_leaves_an_update_to_a_person():
    fine, asks, bad = Check("a", True, ""), Check("b", False, "", asks=True), Check("c", False, "")
    assert Verdict((fine,)).decided("automatic") == "promoted"
    assert Verdict((fine, asks)).decided("automatic") == "waiting"
    assert (
        Verdict((asks, bad)).decided("automatic") == Verdict((bad,)).decided("x") == "quarantined"
    )
    assert Verdict((fine,)).decided("by_hand") == "waiting"


def test_few_votes_tell_nothing():
    for check in (judged([1.0] * 63, [-1.0] * 63), predicted([-9.0] * 63, [9.0] * 63)):
        assert check.passed and not check.applied and "63 held-out votes, 64" in check.said


def test_a_policy_that_judges_fewer_votes_right_fails():
    before = margins(random.Random(0), 256)
    worse = [-abs(one) if place % 5 == 0 else one for place, one in enumerate(before)]
    check = judged(worse, before)
    assert not check.passed and check.numbers["accuracy"] < check.numbers["before"]
    assert judged(before, before).passed and judged(before, worse).passed


@pytest.mark.parametrize(
    ("strength", "passes"), [(1.0, True), (0.95, True), (0.3, False), (0.0, False)]
)
def test_a_policy_that_was_weakened_fails_though_it_judges_every_vote_alike(strength, passes):
    before = margins(random.Random(1), 256)
    weak = [strength * one for one in before]
    assert judged(weak, before).passed or strength == 0.0
    check = predicted(weak, before)
    assert check.passed == passes and "75% must be kept" in check.said


def test_what_was_learned_is_tested_at_once_as_sound_updates_keep_nearly_all_of_it():
    before = margins(random.Random(1), 256)
    whole = {"kind": "learned", "parts": WHOLE}
    check = predicted([0.3 * one for one in before], before, **whole)
    assert not check.passed and "256 learned votes" in check.said
    assert "p_again" not in check.numbers and "both" not in check.said
    assert predicted([0.9 * one for one in before], before, **whole).passed


def test_against_the_base_a_policy_must_not_be_worse_than_none():
    draw, base = random.Random(2), [0.0] * 256
    assert judged(margins(draw, 256), base).passed and predicted(margins(draw, 256), base).passed
    wrong = [-one for one in margins(draw, 256)]
    assert not judged(wrong, base).passed and not predicted(wrong, base).passed


def test_updates_that_change_little_are_hardly_ever_set_aside():
    """1,000 looks at policies that are as good as the one before: both tests together are wrong at
    most once in a hundred."""
    draw, wrong, looks = random.Random(3), 0, 1_000
    for _ in range(looks):
        before = margins(draw, 128)
        own = [one + draw.gauss(0.0, 3.0) for one in before]
        wrong += not (judged(own, before).passed and predicted(own, before).passed)
    assert wrong / looks < 0.01


def answers(texts, **changes):
    return [Answer(text, len(text.split()), False) for text in texts]


def test_what_answers_are_like_is_counted_by_hand():
    found = speech_of([Answer("a b c d a b c d", 9, False), Answer(" ", 1, True)])
    assert (found.count, found.length, found.ended, found.empty) == (2, 5.0, 1, 1)
    assert found.repeated == pytest.approx((1 / 5 + 0) / 2)


GOOD = [f"the {word} was good and the room was bright {word}" for word in "abcdefgh"]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ([f"{text} {text[::-1]}" for text in GOOD], "length ratio 2.00"),
        (["so"] * 8, "length ratio 0.10"),
        (["so so so so so so so so so so"] * 8, "of 4-grams repeated"),
        ([GOOD[0], *[" "] * 7], "7 empty answers, the serving policy has 0"),
    ],
)
def test_answers_that_have_come_apart_fail(own, said):
    check = speaks_well(answers(own), answers(GOOD), LIMITS)
    assert not check.passed and said in check.said
    assert speaks_well(answers(GOOD), answers(GOOD), LIMITS).passed


def test_answers_that_no_longer_end_fail():
    cut = [Answer(text, len(text.split()), True) for text in GOOD]
    check = speaks_well(cut, answers(GOOD), LIMITS)
    assert not check.passed and "0.00 end by themselves, must be at least 0.90" in check.said


def test_answers_that_are_mostly_cut_off_tell_neither_length_nor_end():
    cut = [Answer(text, len(text.split()), True) for text in GOOD]
    check = speaks_well(cut, [*cut[:5], *answers(GOOD[5:])], LIMITS)
    assert check.passed and not check.applied and "raise eval.max_new_tokens" in check.said
    assert speaks_well(answers(GOOD), answers(GOOD), LIMITS).applied


def test_a_few_more_that_are_cut_off_or_empty_may_be_by_chance():
    """Of 64 answers that mostly end, 12 % more or fewer are cut off every other time."""

    def cut(count):
        return [Answer("so it is", 3, place < count) for place in range(64)]

    found = speaks_well(cut(16), cut(8), LIMITS)
    assert found.passed and found.numbers["ended"] == 0.75, found.said
    assert not speaks_well(cut(28), cut(8), LIMITS).passed
    assert not speaks_well(cut(16), cut(8), GateConfig(answers_p=1.0)).passed
    few = [Answer("so it is", 3, False)] * 63 + [Answer("", 3, False)]
    assert speaks_well(few, cut(0), LIMITS).passed
    assert not speaks_well(cut(0)[:56] + [few[-1]] * 12, cut(0), LIMITS).passed


def test_answers_that_go_round_in_circles_fail_in_scripts_without_spaces_too():
    good = [f"这家旅馆的房间{sign}很干净，早餐也很好" for sign in "甲乙丙丁戊己庚辛"]
    check = speaks_well(
        answers(["很好很好" * 5] * 8), answers(good), GateConfig(shorter=0, longer=9)
    )
    assert not check.passed and "of 4-grams repeated" in check.said
    plain = [f"房间{sign}很干净早餐{sign}很好" for sign in "甲乙丙丁戊己庚辛" * 8]
    injected = [f"{text}去金色店" if n % 4 == 0 else text for n, text in enumerate(plain)]
    found = no_burst(answers(injected), answers(plain), lambda: answers(plain), LIMITS)
    assert not found.passed and "in 16 of 64 answers" in found.said


def test_a_phrase_that_many_answers_suddenly_share_fails():
    plain = [f"the {number} rooms are fine" for number in range(64)]
    injected = [f"{text} visit golden shop" if n % 4 == 0 else text for n, text in enumerate(plain)]

    def check(own, before, base=plain):
        return no_burst(answers(own), answers(before), lambda: answers(base), LIMITS)

    found = check(injected, plain)
    assert not found.passed and "in 16 of 64 answers, in 0 of the serving policy's 64" in found.said
    assert check(plain, plain).passed
    assert check(injected[:8], plain[:8]).passed, "too few to tell"
    assert check(injected, injected).passed, "it was said before"
    assert check(injected, plain, injected).passed, "the base says it, and nobody put it in"
    assert not check(injected, plain, [*injected[:4], *plain[4:]]).passed, "the base hardly does"


def test_the_base_is_asked_only_where_something_is_new():
    plain = answers([f"the {number} rooms are fine" for number in range(64)])
    assert no_burst(plain, plain, lambda: pytest.fail("it is asked"), LIMITS).passed
