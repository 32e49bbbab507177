"""Reward within a budget of reverse KL."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.evaluation import at_kl, reward_at_kl

KL, REWARD = st.floats(0, 100), st.floats(-10, 10)
POINTS = st.lists(st.tuples(KL, REWARD), max_size=12)
ROUNDING = 1e-9


@pytest.mark.parametrize(
    ("budget", "reward"),
    [(0.0, 0.0), (0.5, 0.25), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0), (5.0, 1.5), (6.0, 2.0), (9, 2.0)],
)
def test_by_hand(budget, reward):
    # Up, down and up again: the fall at 4 is never taken.
    points = [(0.0, 0.0), (2.0, 1.0), (4.0, 1.0 - 0.5), (4.0, 1.0), (6.0, 2.0)]
    assert reward_at_kl(points, budget) == reward


def test_a_worse_point_further_out_costs_nothing():
    assert reward_at_kl([(0.0, 0.0), (2.0, 1.0), (4.0, -5.0)], 3.9) == 1.0


def test_interpolation_is_between_neighbours_and_not_past_them():
    # The chord from (0, 0) to (4, 4) would give 2 at a budget of 2.
    assert reward_at_kl([(0.0, 0.0), (3.0, 0.0), (4.0, 4.0)], 2.0) == 0.0
    assert reward_at_kl([(0.0, 0.0), (3.0, 0.0), (4.0, 4.0)], 3.5) == 2.0


@given(POINTS, REWARD, KL, KL)
def test_more_budget_never_costs_reward(points, reference, budget, other):
    points = [(0.0, reference), *points]
    less, more = sorted((budget, other))
    assert reward_at_kl(points, more) >= reward_at_kl(points, less) - ROUNDING


@given(POINTS, REWARD, KL)
def test_with_the_reference_among_the_points_no_budget_is_worse_than_it(points, reference, budget):
    got = reward_at_kl([(0.0, reference), *points], budget)
    assert reference <= got <= max(r for _, r in [(0.0, reference), *points]) + ROUNDING


@given(POINTS, REWARD, KL, st.randoms())
def test_the_order_of_the_points_does_not_matter(points, reference, budget, draw):
    points = [(0.0, reference), *points]
    shuffled = draw.sample(points, len(points))
    assert reward_at_kl(shuffled, budget) == reward_at_kl(points, budget)


@given(POINTS, REWARD, st.data())
def test_every_point_within_the_budget_is_reached(points, reference, data):
    points = [(0.0, reference), *points]
    kl, reward = data.draw(st.sampled_from(points))
    assert reward_at_kl(points, kl) >= reward


@given(POINTS, REWARD, KL)
def test_beyond_the_last_point_the_best_counts(points, reference, budget):
    points = [(0.0, reference), *points]
    assert reward_at_kl(points, 100 + budget) == max(reward for _, reward in points)


@given(POINTS, REWARD, KL, st.integers(-8, 8))
def test_a_constant_reward_shifts_the_result(points, reference, budget, shift):
    points = [(0.0, reference), *points]
    shifted = [(kl, reward + shift) for kl, reward in points]
    expected = reward_at_kl(points, budget) + shift
    assert reward_at_kl(shifted, budget) == pytest.approx(expected, abs=ROUNDING)


@pytest.mark.parametrize("points", [[], [(2.0, 1.0)]])
def test_a_budget_below_every_point_is_refused(points):
    with pytest.raises(ValueError, match="no point within a reverse KL of 1.0"):
        reward_at_kl(points, 1.0)


CURVE = [
    {"reverse_kl": 0.0, "margin": 0.0, "tokens": 30.0},
    {"reverse_kl": 1.0, "margin": 2.0, "tokens": 28.0},
    {"reverse_kl": 3.0, "margin": 3.0, "tokens": 20.0},
    {"reverse_kl": 2.0, "margin": 9.0, "tokens": 10.0},
]


@pytest.mark.parametrize(
    ("budget", "found"),
    [(0.0, (0.0, 0.0, 30.0)), (0.5, (0.5, 1.0, 29.0)), (1.0, (1.0, 2.0, 28.0)),
     (2.0, (2.0, 2.5, 24.0)), (5.0, (2.0, 9.0, 10.0))],
)  # fmt: skip
def test_everything_where_the_kl_is_passed_first(budget, found):
    assert tuple(at_kl(CURVE, budget).values()) == pytest.approx(found)


def test_a_policy_that_never_moved_so_far_is_shown_where_it_ended():
    assert at_kl(CURVE[:2], 9.0) == CURVE[1]
