"""Regret: losses above somebody else's, step by step and in all."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.evaluation import regret_curve, relative_regret

LOSSES = st.lists(st.integers(0, 4096).map(lambda n: n / 64), min_size=1, max_size=30)
"""Multiples of 1/64, whose sums are exact."""


@st.composite
def two(draw):
    losses = draw(LOSSES)
    return losses, [draw(st.integers(1, 4096)) / 64 for _ in losses]


def test_by_hand():
    losses, comparator = [0.75, 0.5, 0.25, 1.0], [0.25, 0.75, 0.25, 0.5]
    assert regret_curve(losses, comparator) == [0.5, 0.25, 0.25, 0.75]
    assert relative_regret(losses, comparator) == 0.75 / 1.75
    assert relative_regret(comparator, losses) == -0.75 / 2.5


def test_no_steps_have_no_regret():
    assert regret_curve([], []) == []


@given(two())
def test_the_curve_ends_at_the_difference_of_the_totals(drawn):
    losses, comparator = drawn
    curve = regret_curve(losses, comparator)
    assert len(curve) == len(losses)
    assert curve[-1] == sum(losses) - sum(comparator)
    assert relative_regret(losses, comparator) == pytest.approx(curve[-1] / sum(comparator))


@given(two())
def test_regret_against_oneself_is_nothing_and_swapping_changes_the_sign(drawn):
    losses, comparator = drawn
    assert set(regret_curve(losses, losses)) == {0.0}
    assert relative_regret(comparator, comparator) == 0
    back = regret_curve(comparator, losses)
    assert [-value for value in back] == regret_curve(losses, comparator)


@given(two(), st.integers(-64, 64).map(lambda n: n / 64))
def test_a_loss_added_to_both_leaves_the_curve(drawn, added):
    losses, comparator = drawn
    raised = regret_curve([v + added for v in losses], [v + added for v in comparator])
    assert raised == regret_curve(losses, comparator)


@given(two(), st.sampled_from([0.25, 2.0, 1024.0]))
def test_the_unit_scales_the_curve_and_not_the_share(drawn, unit):
    losses, comparator = drawn
    scaled = [unit * v for v in losses], [unit * v for v in comparator]
    assert regret_curve(*scaled) == [unit * v for v in regret_curve(losses, comparator)]
    assert relative_regret(*scaled) == relative_regret(losses, comparator)


@pytest.mark.parametrize("regret", [regret_curve, relative_regret])
def test_steps_that_do_not_correspond_are_refused(regret):
    with pytest.raises(ValueError, match="2 losses, but 3 of the comparator"):
        regret([1.0, 1.0], [1.0, 1.0, 1.0])


@pytest.mark.parametrize("comparator", [[], [0.0, 0.0], [-1.0, 0.5], [math.nan]])
def test_there_is_no_share_of_a_comparator_that_lost_nothing(comparator):
    with pytest.raises(ValueError, match="undefined"):
        relative_regret([1.0] * len(comparator), comparator)
