"""The warning of a damaged policy, at its thresholds."""

import math

import pytest

from fastslow.evaluation import degradation, wilson_interval

HEALTHY = {
    "pairs": 100,
    "accuracy": 0.7,
    "chosen_log_ratio": -0.7,
    "mean_length": 20.0,
}


def warned(start=None, *, num_answers=0, rewards=False, **changes):
    return degradation(
        HEALTHY | changes, start and HEALTHY | start, num_answers=num_answers, rewards=rewards
    )


def test_a_healthy_policy_brings_no_warning():
    assert warned({}, num_answers=64) is None


@pytest.mark.parametrize(("lost", "expected"), [(3.999, False), (4.0, False), (4.001, True)])
def test_chosen_responses_may_lose_four_nats(lost, expected):
    assert bool(warned(chosen_log_ratio=-lost)) == expected


def test_how_much_less_likely_they_are_is_said():
    message = warned(chosen_log_ratio=-4.6)
    assert "chosen responses are 4.6 nats less likely than under the reference" in message
    assert f"({math.exp(-4.6):.2g} times as likely)" in message and "\n" not in message


def test_examples_without_a_chosen_response_are_not_missed():
    assert warned(chosen_log_ratio=None) is None


@pytest.mark.parametrize(("length", "expected"), [(36.0, False), (36.1, True), (40.0, True)])
def test_answers_may_get_less_than_twice_as_long(length, expected):
    found = warned({"mean_length": 20.0}, num_answers=32, mean_length=length)
    assert bool(found) == expected
    assert not expected or f"{length / 20:.1f} times as many as before training" in found


def test_few_answers_say_nothing_of_their_length():
    assert warned({"mean_length": 20.0}, num_answers=31, mean_length=200.0) is None
    assert warned({"mean_length": None}, num_answers=64, mean_length=200.0) is None
    assert warned(None, num_answers=64, mean_length=200.0) is None
    assert warned({"mean_length": 20.0}, num_answers=64, mean_length=None) is None


@pytest.mark.parametrize("pairs", [8, 24, 100, 1000])
def test_accuracy_is_below_chance_where_its_whole_interval_is(pairs):
    wrong = [
        wins for wins in range(pairs + 1)
        if warned(pairs=pairs, accuracy=wins / pairs) is not None
    ]  # fmt: skip
    assert wrong == list(range(len(wrong)))
    most = wrong[-1]
    assert wilson_interval(most, pairs)[1] < 0.5 <= wilson_interval(most + 1, pairs)[1]


def test_three_wrong_pairs_are_no_evidence_and_four_of_four_are():
    assert warned(pairs=3, accuracy=0.0) is None
    assert "accuracy is 0.000 on 4 examples" in warned(pairs=4, accuracy=0.0)


def test_all_signs_come_in_one_line_with_what_to_do():
    message = warned(
        {"mean_length": 10.0}, num_answers=64, mean_length=30.0, chosen_log_ratio=-9.0, accuracy=0.2
    )
    assert message.count("; ") == 2 and "\n" not in message and len(message) < 500
    assert message.endswith("Lower train.learning_rate, raise beta, or stop earlier")


def test_rewards_have_no_zero_but_their_order_can_be_wrong():
    assert warned(rewards=True, chosen_log_ratio=-50.0) is None
    message = warned(rewards=True, accuracy=0.2)
    assert "accuracy is 0.200" in message and "beta" not in message
