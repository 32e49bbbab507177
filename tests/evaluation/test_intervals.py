"""Intervals: Wilson's by its equation, bootstrap by what is known of means, Student's by scipy."""

import math
import random
from statistics import NormalDist, fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fastslow.evaluation import bootstrap_interval, student_interval, wilson_interval
from fastslow.evaluation.intervals import Z95

COUNTS = st.integers(1, 5000).flatmap(
    lambda n: st.tuples(st.integers(0, 2 * n).map(lambda half: half / 2), st.just(n))
)


def ends(wins, count, z):
    """Where (share - p)^2 = z^2 p (1 - p) / n, by bisection on either side of the share."""
    share = wins / count

    def beyond(p):
        return (share - p) ** 2 - z * z * p * (1 - p) / count > 0

    def edge(outside, inside):
        for _ in range(200):
            middle = (outside + inside) / 2
            outside, inside = (middle, inside) if beyond(middle) else (outside, middle)
        return inside

    return edge(0.0, share) if share else 0.0, edge(1.0, share) if share < 1 else 1.0


def test_z_is_the_two_sided_95_per_cent_point():
    assert pytest.approx(NormalDist().inv_cdf(0.975), abs=1e-12) == Z95


@pytest.mark.parametrize(
    ("wins", "count", "low", "high"),
    # All but the last from R. G. Newcombe, Statistics in Medicine 17 (1998) 857.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_published_values_of_wilsons_interval(wins, count, low, high):
    got = wilson_interval(wins, count)
    assert got == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("wins", "count"), [(3, 10), (0.5, 4), (50, 100), (999, 1000), (1, 1)])
@pytest.mark.parametrize("z", [1.0, Z95, 3.29])
def test_wilsons_ends_are_where_bisection_finds_them(wins, count, z):
    assert wilson_interval(wins, count, z=z) == pytest.approx(ends(wins, count, z), abs=1e-9)


@given(COUNTS)
def test_at_both_ends_the_share_lies_z_standard_errors_away(drawn):
    wins, count = drawn
    for p in wilson_interval(wins, count):
        away = Z95 * math.sqrt(p * (1 - p) / count)
        # Near 0 and 1 the root magnifies rounding, so the squares are compared.
        assert (wins / count - p) ** 2 == pytest.approx(away**2, rel=1e-6, abs=1e-14)


@given(COUNTS)
def test_wilsons_interval_holds_the_share_and_stays_between_0_and_1(drawn):
    wins, count = drawn
    low, high = wilson_interval(wins, count)
    assert 0 <= low <= wins / count <= high <= 1
    assert low < high


@given(COUNTS)
def test_wilsons_interval_of_losses_is_the_mirror_image(drawn):
    wins, count = drawn
    low, high = wilson_interval(wins, count)
    assert wilson_interval(count - wins, count) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilsons_interval_narrows_as_counts_grow_and_widens_with_z():
    widths = [high - low for low, high in (wilson_interval(n // 4, n) for n in (8, 40, 400))]
    assert widths == sorted(widths, reverse=True)
    low, high = wilson_interval(10, 40)
    wide_low, wide_high = wilson_interval(10, 40, z=2.6)
    assert wide_low < low < high < wide_high


@pytest.mark.parametrize(("wins", "count"), [(1, 0), (-1, 5), (6, 5), (0, -1), (math.nan, 5)])
def test_impossible_counts_are_refused(wins, count):
    with pytest.raises(ValueError, match=f"{wins} wins of {count}"):
        wilson_interval(wins, count)


@pytest.fixture(scope="module")
def sample():
    draw = random.Random(5)
    return [draw.gauss(3.0, 2.0) for _ in range(60)]


def test_the_bootstrap_follows_its_seed(sample):
    low, high = bootstrap_interval(sample, seed=1)
    assert bootstrap_interval(sample, seed=1) == (low, high)
    other = bootstrap_interval(sample, seed=2)
    assert other != (low, high)
    assert other == pytest.approx((low, high), abs=0.1 * (high - low))


def test_the_bootstrap_of_a_normal_sample_is_the_mean_and_two_standard_errors(sample):
    error = stdev(sample) / math.sqrt(len(sample))
    low, high = bootstrap_interval(sample)
    assert low == pytest.approx(fmean(sample) - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(fmean(sample) + 1.96 * error, abs=0.2 * error)


@pytest.mark.parametrize("count", [*range(2, 14), 30, 60])
def test_students_interval_is_that_of_scipy(sample, count):
    some = sample[:count]
    found = stats.ttest_1samp(some, 0.0).confidence_interval(0.95)
    half = (found.high - found.low) / 2
    assert student_interval(some) == pytest.approx((found.low, found.high), abs=0.002 * half)


def test_the_bootstrap_widens_with_the_level(sample):
    values = sample[:20]
    low, high = bootstrap_interval(values, level=0.5)
    wide_low, wide_high = bootstrap_interval(values, level=0.99)
    assert wide_low < low < fmean(values) < high < wide_high


def test_the_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    draw = random.Random(11)
    hits, trials = 0, 60
    for trial in range(trials):
        low, high = bootstrap_interval([draw.gauss(0, 1) for _ in range(12)], seed=trial, level=0.8)
        hits += low <= 0 <= high
    # 80 per cent, less some for so few values; three standard errors are 15 per cent.
    assert 0.6 <= hits / trials <= 0.93


@pytest.mark.parametrize("value", [0.0, 0.1, -7.25])
def test_the_bootstrap_of_equal_values_has_no_width(value):
    low, high = bootstrap_interval([value] * 7)
    assert low == high == pytest.approx(value)


def test_the_bootstrap_refuses_no_values_and_impossible_levels():
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval([])
    for level in (0.0, 1.0, 95.0, -0.5):
        with pytest.raises(ValueError, match=f"level {level}"):
            bootstrap_interval([1.0, 2.0], level=level)
