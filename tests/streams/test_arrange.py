"""Regimes one behind the other: abrupt, overlapping, recurring."""

from itertools import count

import pytest

from fastslow.streams.arrange import arranged


def regime(name):
    return ((name, i) for i in count())


def test_without_overlap_the_order_is_exact():
    rows = list(arranged([regime("a"), regime("b"), regime("c")], each=4))
    assert rows == [(name, i) for name in "abc" for i in range(4)]


def test_a_regime_that_returns_goes_on_with_its_next_rows():
    first, second = regime("a"), regime("b")
    rows = list(arranged([first, second, first], each=3))
    assert rows[:3] + rows[6:] == [("a", i) for i in range(6)]
    rows = list(arranged([regime("c"), second, first], each=50, overlap=0.5))
    numbers = [i for name, i in rows if name == "b"]
    assert numbers == list(range(3, 3 + len(numbers)))


def test_the_next_regimes_share_rises_linearly_from_none_to_all():
    each, overlap, rounds = 40, 0.5, 2000
    late = [0] * (2 * each)
    for seed in range(rounds):
        regimes = [regime("a"), regime("b")]
        for position, (name, _) in enumerate(
            arranged(regimes, each=each, overlap=overlap, seed=seed)
        ):
            late[position] += name == "b"
    width = overlap * each
    for position, hits in enumerate(late):
        expected = min(1.0, max(0.0, 0.5 + (position + 0.5 - each) / width))
        error = (expected * (1 - expected) / rounds) ** 0.5
        assert abs(hits / rounds - expected) <= 4.5 * error, position
    # On average no regime gains by the overlap.
    assert abs(sum(late) / rounds - each) < 0.2


def test_full_overlap_mixes_neighbours_only_and_keeps_the_length():
    regimes = [regime(name) for name in "abcd"]
    rows = list(arranged(regimes, each=25, overlap=1.0, seed=5))
    assert len(rows) == 100
    for position, (name, _) in enumerate(rows):
        assert abs("abcd".index(name) - position / 25) < 1.5 + 1e-9
    for name in "abcd":
        numbers = [i for n, i in rows if n == name]
        assert numbers == list(range(len(numbers)))
    assert rows == list(arranged([regime(n) for n in "abcd"], each=25, overlap=1.0, seed=5))
    assert rows != list(arranged([regime(n) for n in "abcd"], each=25, overlap=1.0, seed=6))


@pytest.mark.parametrize("options", [{"each": 0}, {"each": 3, "overlap": -0.1},
                                     {"each": 3, "overlap": 1.1}])  # fmt: skip
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must be at least 1, and 0 to 1"):
        next(arranged([regime("a")], **options))


def test_a_regime_with_too_few_rows_is_named():
    with pytest.raises(ValueError, match="regime 2 has no more rows at row 6"):
        list(arranged([regime("a"), iter([("b", 0), ("b", 1)])], each=3))
