"""The warning of a damaged policy, at its thresholds."""

import pytest

from fastslow.evaluation import degradation, wilson_interval

HEALTHY = {
    "pairs": 100,
    "accuracy": 0.7,
    "chosen_log_ratio": -0.7,
    "chosen_length": 20.0,
    "mean_length": 20.0,
    "truncated": 0.1,
}


def warned(start=None, *, num_answers=0, rewards=False, **changes):
    return degradation(
        HEALTHY | changes, start and HEALTHY | start, num_answers=num_answers, rewards=rewards
    )


def test_a_healthy_policy_brings_no_warning():
    assert warned({}, num_answers=64) is None


@pytest.mark.parametrize("length", [20.0, 60.0, 300.0, 1000.0])
def test_chosen_responses_may_lose_a_fifth_of_a_nat_per_token(length):
    for lost, expected in [(0.1999, False), (0.2001, True)]:
        found = warned(chosen_log_ratio=-lost * length, chosen_length=length)
        assert bool(found) == expected


def test_what_an_ordinary_run_on_long_answers_loses_is_no_damage():
    assert warned(chosen_log_ratio=-50.0, chosen_length=300.0) is None


@pytest.mark.parametrize(("lost", "expected"), [(3.999, False), (4.0, False), (4.001, True)])
def test_short_responses_may_lose_what_twenty_tokens_may(lost, expected):
    assert bool(warned(chosen_log_ratio=-lost, chosen_length=3.0)) == expected


def test_how_much_less_likely_they_are_is_said():
    message = warned(chosen_log_ratio=-90.0, chosen_length=300.0)
    assert "chosen responses are 90.0 nats less likely than under the reference" in message
    assert "0.30 nats for each of their 300 tokens" in message and "\n" not in message


def test_examples_without_a_chosen_response_are_not_missed():
    assert warned(chosen_log_ratio=None, chosen_length=None) is None


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


@pytest.mark.parametrize(
    ("before", "after", "expected"), [(0.5, 0.91, True), (0.5, 0.9, False), (0.51, 1.0, False)]
)
def test_answers_that_no_longer_end_are_told_where_the_limit_hides_their_length(
    before, after, expected
):
    start = {"mean_length": 100.0, "truncated": before}
    found = warned(start, num_answers=32, mean_length=127.0, truncated=after)
    assert bool(found) == expected
    assert not expected or "91 % of the sampled answers are cut by the length limit, 50 %" in found
    assert warned(start, num_answers=31, mean_length=127.0, truncated=after) is None


def test_answers_much_longer_and_cut_are_told_once():
    start = {"mean_length": 40.0, "truncated": 0.0}
    found = warned(start, num_answers=32, mean_length=128.0, truncated=1.0)
    assert "3.2 times as many" in found and "length limit" not in found


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
