"""The arithmetic of curves."""

import math
import random

import folders
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.reports.curves import Curve, cumulative, thinned, trailing_mean
from fastslow.reports.regret import above_unlearned, comparable, regrets
from fastslow.reports.runs import read_runs


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=400), st.integers(4, 60))
def test_thinning_keeps_the_ends_and_the_extremes(values, limit):
    curve = Curve(range(len(values)), values)
    thin = thinned(curve, limit)
    assert len(thin.x) <= max(limit, 4) and list(thin.x) == sorted(set(thin.x))
    assert (thin.x[0], thin.x[-1]) == (0, len(values) - 1)
    assert (min(thin.y), max(thin.y)) == (min(values), max(values))
    assert all(values[x] == y for x, y in zip(thin.x, thin.y, strict=True))


def test_a_short_curve_is_left_alone():
    curve = Curve([1, 2], [0.0, 1.0])
    assert thinned(curve, 10) is curve


def test_the_trailing_mean_is_the_mean_of_the_window():
    draw = random.Random(0)
    x = sorted(draw.sample(range(1000), 100))
    y = [draw.gauss(0, 1) for _ in x]
    smooth = trailing_mean(Curve(x, y), 50).y
    for index, mean in enumerate(smooth):
        window = [b for a, b in zip(x[: index + 1], y, strict=False) if a > x[index] - 50]
        assert mean == pytest.approx(sum(window) / len(window))


def make(folder, losses, *, size=8):
    events = [folders.step(n, pairs=size * n, loss=loss) for n, loss in enumerate(losses, start=1)]
    return folders.ordinary(folder, events)


def test_cumulative_loss_weighs_batches_by_their_pairs(tmp_path):
    events = [folders.step(1, pairs=8, loss=0.5), folders.step(2, pairs=10, loss=1.0)]
    (run,) = read_runs([folders.ordinary(tmp_path / "run", events)])
    total = cumulative(run.records, "loss")
    assert list(total.x) == [0, 8, 10] and list(total.y) == pytest.approx([0, 4, 6])
    never = above_unlearned(run)
    assert list(never.y) == pytest.approx([0, 4 - 8 * math.log(2), 6 - 10 * math.log(2)])


def test_regret_is_above_the_run_that_ends_with_the_least(tmp_path):
    runs = read_runs(
        [
            make(tmp_path / "late", [0.7, 0.1]),
            make(tmp_path / "early", [0.3, 0.6]),
            make(tmp_path / "big", [0.5], size=16),
        ]
    )
    late, early, big = regrets(runs)
    assert list(late.y) == [0, 0, 0]
    assert list(early.y) == pytest.approx([0, 8 * (0.3 - 0.7), 8 * (0.9 - 0.8)])
    # Its one batch of 16 is compared at the end only.
    assert list(big.x) == [0, 16] and list(big.y) == pytest.approx([0, 8 - 6.4])


def test_only_runs_of_as_many_pairs_and_one_objective_are_compared(tmp_path):
    paths = [make(tmp_path / name, [0.7, 0.6]) for name in ("a", "b", "other")]
    paths.append(make(tmp_path / "longer", [0.7, 0.6, 0.5]))
    with (paths[2] / "config.yaml").open("a") as file:
        file.write("objective: {name: hinge}\n")
    assert [run.label for run in comparable(read_runs(paths))] == ["a", "b"]
