"""What is kept of earlier domains: the four numbers, by hand and by what they must not change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.evaluation import retention

BY_HAND = [
    [0.80, 0.30, 0.10],
    [0.60, 0.90, 0.25],
    [0.70, 0.55, 0.95],
]
INITIAL = [0.20, 0.15, 0.05]
SCORE = st.floats(-10, 10)


@st.composite
def matrices(draw, least=1):
    count = draw(st.integers(least, 6))
    row = st.lists(SCORE, min_size=count, max_size=count)
    return draw(st.lists(row, min_size=count, max_size=count)), draw(row)


def test_three_domains_by_hand():
    got = retention(BY_HAND, INITIAL)
    assert got.average == pytest.approx((0.70 + 0.55 + 0.95) / 3)
    assert got.backward_transfer == pytest.approx(((0.70 - 0.80) + (0.55 - 0.90)) / 2)
    assert got.forward_transfer == pytest.approx(((0.30 - 0.15) + (0.25 - 0.05)) / 2)
    assert got.forgetting == pytest.approx(((0.80 - 0.70) + (0.90 - 0.55)) / 2)


def test_forgetting_falls_from_the_best_score_since_the_domain_was_learned():
    # Domain 0 is best after domain 1; a better score before a domain was learned does not count.
    got = retention([[0.5, 9.0, 0.0], [0.75, 0.5, 0.0], [0.25, 0.25, 0.0]], [0.0, 0.0, 0.0])
    assert got.forgetting == ((0.75 - 0.25) + (0.5 - 0.25)) / 2
    assert got.backward_transfer == ((0.25 - 0.5) + (0.25 - 0.5)) / 2


def test_forgetting_is_negative_where_the_last_domain_helps_an_earlier_one():
    assert retention([[1.0, 0.0], [3.0, 1.0]], [0.0, 0.0]).forgetting == -2.0


@given(st.lists(SCORE, min_size=2, max_size=6), st.data())
def test_scores_that_training_leaves_alone_have_no_transfer_back_and_nothing_forgotten(row, data):
    initial = data.draw(st.lists(SCORE, min_size=len(row), max_size=len(row)))
    got = retention([row] * len(row), initial)
    assert got.backward_transfer == 0 and got.forgetting == 0
    assert got.average == pytest.approx(sum(row) / len(row))


@given(matrices(least=2))
def test_forgetting_is_at_least_minus_the_backward_transfer(drawn):
    got = retention(*drawn)
    assert got.forgetting >= -got.backward_transfer


@given(matrices(least=2))
def test_forgetting_is_minus_the_backward_transfer_where_each_domain_was_best_when_learned(drawn):
    matrix, initial = drawn
    count = len(initial)
    for j in range(count):
        matrix[j][j] = max(matrix[i][j] for i in range(j, max(j + 1, count - 1)))
    got = retention(matrix, initial)
    assert got.forgetting == -got.backward_transfer


@given(matrices(least=2))
def test_scores_just_before_learning_that_equal_the_first_have_no_transfer_forward(drawn):
    matrix, initial = drawn
    for j in range(1, len(initial)):
        matrix[j - 1][j] = initial[j]
    assert retention(matrix, initial).forward_transfer == 0


@given(matrices(), SCORE, st.data())
def test_a_constant_on_one_domain_moves_the_average_only(drawn, shift, data):
    matrix, initial = drawn
    count = len(initial)
    j = data.draw(st.integers(0, count - 1))
    before = retention(matrix, initial)
    moved = [[v + shift * (k == j) for k, v in enumerate(row)] for row in matrix]
    after = retention(moved, [v + shift * (k == j) for k, v in enumerate(initial)])
    assert after.average == pytest.approx(before.average + shift / count, abs=1e-9)
    for name in ("backward_transfer", "forward_transfer", "forgetting"):
        old = getattr(before, name)
        assert getattr(after, name) == (None if old is None else pytest.approx(old, abs=1e-9))


@given(SCORE, SCORE)
def test_one_domain_has_an_average_and_no_transfer(score, initial):
    got = retention([[score]], [initial])
    assert got.average == score
    assert (got.backward_transfer, got.forward_transfer, got.forgetting) == (None, None, None)


@pytest.mark.parametrize(
    ("matrix", "initial", "shape"),
    [
        ([], [], r"rows of \[\] scores and b has 0"),
        ([[1.0, 2.0]], [0.0, 0.0], r"rows of \[2\] scores and b has 2"),
        ([[1.0, 2.0], [1.0]], [0.0, 0.0], r"rows of \[2, 1\] scores and b has 2"),
        ([[1.0, 2.0], [1.0, 2.0]], [0.0], r"rows of \[2, 2\] scores and b has 1"),
        ([[1.0, 2.0, 3.0]] * 2, [0.0, 0.0], r"rows of \[3, 3\] scores and b has 2"),
    ],
)
def test_shapes_that_disagree_are_named(matrix, initial, shape):
    with pytest.raises(ValueError, match=shape):
        retention(matrix, initial)
