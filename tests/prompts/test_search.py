"""Searches in pools: what they may propose, when they end, and that ZOPO finds known optima."""

from itertools import count

import pytest
import torch

from benchmarks.prompts import BUDGET, HIGHEST, METHODS, POOL, SEEDS, landscape
from fastslow.errors import ConfigError
from fastslow.evaluation import bootstrap_interval
from fastslow.prompts import (
    Evaluation,
    ZopoSettings,
    best_of_initial,
    random_search,
    resample,
    search,
    zopo,
)
from fastslow.prompts.search import Evaluated
from fastslow.prompts.zopo import _Walk

LINE = torch.arange(60, dtype=torch.float64)[:, None]
"""Candidates in a row."""


def proposals(name, embeddings, *, seed=0, **changes):
    return {
        "zopo": lambda: zopo(embeddings, ZopoSettings(initial=8, **changes), seed=seed),
        "random": lambda: random_search(embeddings, seed=seed),
        "initial": lambda: best_of_initial(embeddings, initial=8, seed=seed),
        "resample": lambda: resample(embeddings, initial=8, seed=seed),
    }[name]()


def places(name, score, *, budget=BUDGET, embeddings=LINE, **changes):
    made = proposals(name, embeddings, **changes)
    return [one.candidate for one in search(made, score, budget=budget)]


@pytest.mark.parametrize("name", ["zopo", "random", "resample"])
@pytest.mark.parametrize("score", [lambda i: 0.0, lambda i: i / 100, lambda i: (i % 7) / 10])
def test_every_candidate_is_proposed_once_and_then_it_ends(name, score):
    assert sorted(places(name, score)) == [*range(60)]


@pytest.mark.parametrize("name", ["zopo", "random", "initial", "resample"])
def test_the_same_seed_gives_the_same_bits_and_all_methods_begin_alike(name):
    _, scores = landscape(0, 3)
    first, again = (
        [*search(proposals(name, LINE), lambda i: float(scores[i]), budget=30)] for _ in range(2)
    )
    assert first == again
    begun = places("initial", lambda i: 0.5)
    assert places(name, lambda i: i / 100, budget=8) == begun and len(begun) == 8
    assert places(name, lambda i: 0.5, budget=8, seed=1) != begun


def test_a_search_ends_with_its_budget_or_at_the_target():
    assert len(places("random", lambda i: 0.5, budget=17)) == 17
    found = [*search(proposals("random", LINE), lambda i: float(i == 30), budget=60)]
    assert found[-1] == Evaluation(30, 1.0) and sum(one.score for one in found) == 1
    half = search(proposals("random", LINE), lambda i: 0.5, budget=60, target=0.5)
    assert len([*half]) == 1


def test_zopo_climbs_and_projects_to_the_nearest_that_was_not_evaluated():
    """Scores rise along the line: after the first ones it goes on from the best of them."""
    order = places("zopo", lambda i: i / 100, budget=12)
    begun, climbed = order[:8], order[8:]
    free = [i for i in range(60) if i not in begun]
    best = max(begun)
    near = sorted(free, key=lambda i: abs(i - best))[:6]
    assert set(climbed) <= set(near) and len(climbed) == 4


def test_a_large_step_follows_the_sign_of_the_gradient():
    begun = places("initial", lambda i: 0.0)
    for sign in (1, -1):
        order = places(
            "zopo", lambda i, sign=sign: 0.5 + sign * i / 200, budget=9, learning_rate=3.0
        )
        best = max(begun) if sign > 0 else min(begun)
        assert (order[8] - best) * sign >= 0 or best in (59, 0)


def test_where_the_gradient_vanishes_the_neighbourhood_is_evaluated():
    """All scores are 0, and so is the surrogate's mean with its gradient."""
    order = places("zopo", lambda i: 0.0, neighbors=6)
    at = order[0]  # The best of equal ones is the first.
    near = sorted(range(60), key=lambda i: (abs(i - at), i))[:6]
    expected = [i for i in near if i not in order[:8]]
    assert order[8 : 8 + len(expected)] == expected


def test_where_it_stays_uncertain_the_neighbourhood_is_evaluated():
    """A threshold below the noise is passed at every step: on the third the ten nearest follow."""
    embeddings, scores = landscape(1, 3)
    settings = {"uncertainty": 1e-9, "neighbors": 10, "tolerance": 99, "learning_rate": 0.1}

    def order_with(patience, **changes):
        given = settings | {"patience": patience, "embeddings": embeddings} | changes
        return places("zopo", lambda i: float(scores[i]), budget=30, **given)

    order, patient = order_with(3), order_with(99)
    at = order[9]  # After the eight first ones and two steps.
    near = (embeddings - embeddings[at]).norm(dim=1).argsort()[:10].tolist()
    expected = [i for i in near if i not in order[:10]]
    assert order[10 : 10 + len(expected)] == expected and len(expected) > 2
    assert order[:10] == patient[:10] and order != patient
    sure = [order_with(patience, uncertainty=1.0) for patience in (3, 99)]
    assert sure[0] == sure[1] != patient  # It is never unsure, and takes second steps.


def test_after_queries_without_a_record_it_returns_to_the_best():
    """One peak among zeros: with no tolerance each query is near it, with much it walks off."""
    peak = places("initial", lambda i: 0.0)[3]
    score = {peak: 0.9}
    distances = {}
    for tolerance in (0, 99):
        order = places(
            "zopo", lambda i: score.get(i, 0.1 + abs(i - peak) / 1000), tolerance=tolerance,
            budget=30, learning_rate=3.0,
        )  # fmt: skip
        distances[tolerance] = sum(abs(i - peak) for i in order[8:])
    assert distances[0] < distances[99]


@pytest.mark.parametrize(("change", "returns"), [(1, 0), (-1, 4)])
def test_a_record_begins_the_count_again(monkeypatch, change, returns):
    """Of 12 queries every one is a record, or none: then every third ends in a return."""
    restart, restarts = _Walk.restart, []
    monkeypatch.setattr(_Walk, "restart", lambda walk: (restarts.append(1), restart(walk)))
    scores = count(0.5, change / 1000)
    assert len(places("zopo", lambda i: next(scores), budget=8 + 13)) == 21
    assert len(restarts) == 1 + returns  # It begins at the best, too.


def test_the_nearest_come_first_and_equally_near_ones_in_order():
    known = Evaluated(LINE, {10: 0.1, 12: 0.3, 20: 0.3})
    at = torch.tensor([11.0]).double()
    assert known.nearest(at, 2) == [10, 12] and known.best == 12
    assert known.nearest_new(at) == 11
    assert known.new_among_nearest(at, 5) == [11, 9, 13]
    assert known.add(30, 0.3) is False and known.add(31, 0.4) is True


def test_damaged_embeddings_are_refused():
    for damaged, message in (
        (torch.tensor([[1.0], [float("nan")]]), "not finite"),
        (torch.zeros(3), "one row for each"),
        (torch.zeros(0, 4), "one row for each"),
    ):
        with pytest.raises(ConfigError, match=message):
            next(zopo(damaged, ZopoSettings(), seed=0))


def test_a_pool_of_equal_embeddings_is_searched_all_the_same():
    equal = torch.ones(20, 3)
    assert sorted(places("zopo", lambda i: i / 100, embeddings=equal)) == [*range(20)]


def test_zopo_finds_better_candidates_than_random_search_in_the_same_budget():
    """Where a high score is rare; the interval of the difference has no 0 in it."""
    differences, hits = [], 0
    for seed in SEEDS:
        embeddings, scores = landscape(seed, 10)
        assert embeddings.shape[0] == POOL and float(scores.max()) == pytest.approx(HIGHEST)
        best = {
            name: max(
                one.score
                for one in search(
                    METHODS[name](embeddings, seed),
                    lambda i, scores=scores: float(scores[i]),
                    budget=BUDGET,
                )
            )
            for name in ("zopo", "random")
        }
        differences.append(best["zopo"] - best["random"])
        hits += best["zopo"] > HIGHEST - 1e-9
    low, _ = bootstrap_interval(differences)
    assert low > 0 and hits >= 8
