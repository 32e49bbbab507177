"""The strength of an update by its reverse KL: within the limit, close to it, few tries."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.evaluation import strength_within
from fastslow.evaluation.strength import CLOSE, MOST_TRIED


def test_an_update_within_the_limit_is_left_alone():
    (only,) = strength_within(2.0, lambda strength: 1.99 * strength**2)
    assert (only.strength, only.reverse_kl) == (1.0, 1.99)


def test_a_quadratic_is_solved_at_once():
    first, last = strength_within(2.0, lambda strength: 50.0 * strength**2)
    assert first.strength == 1.0 and last.strength == pytest.approx((0.95 * 2 / 50) ** 0.5)


@given(
    st.floats(0.01, 100), st.floats(1.01, 1000), st.floats(0.5, 4), st.floats(0.001, 0.9)
)  # fmt: skip
def test_the_last_is_within_and_close_where_the_kl_rises_steadily(limit, far, power, bend):
    def kl(strength):
        return limit * far * ((1 - bend) * strength**power + bend * strength ** (2 * power))

    tried = strength_within(limit, kl)
    last = tried[-1]
    assert last.reverse_kl == kl(last.strength) <= limit
    assert len(tried) <= MOST_TRIED + 2
    if len(tried) < MOST_TRIED:
        assert last.reverse_kl >= CLOSE * limit


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e300])
def test_what_is_not_a_number_is_beyond(bad):
    tried = strength_within(2.0, lambda strength: bad if strength > 0.4 else strength)
    assert tried[0].strength == 1 and 0 < tried[-1].strength <= 0.4


def test_where_nothing_is_within_the_reference_is_left():
    tried = strength_within(2.0, lambda strength: 5.0)
    assert (tried[-1].strength, tried[-1].reverse_kl) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("at_start", "strength"), [(0.0, 0.43), (-1e-7, 0.43), (1.0, 0.29), (3.0, 0.0)]
)
def test_a_start_that_is_not_the_reference_has_a_kl_of_its_own(at_start, strength):
    tried = strength_within(2.0, lambda s: at_start + (10 - at_start) * s**2, from_reference=False)
    assert tried[-1].strength == pytest.approx(strength, abs=0.03)
    assert tried[-1].reverse_kl == pytest.approx(
        at_start + (10 - at_start) * tried[-1].strength ** 2
    )


def test_a_kl_that_falls_and_rises_again_ends_within():
    tried = strength_within(1.0, lambda strength: 9 * strength**2 + math.sin(20 * strength))
    assert tried[-1].reverse_kl <= 1.0
