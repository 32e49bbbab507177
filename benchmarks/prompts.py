"""ZOPO against random search and other baselines at equal budgets, where the optimum is known.

    python -m benchmarks.prompts OUT

A landscape has 500 candidates, each with a hidden place. Its score is the highest of four bumps
there, its embedding a curved image of the place with 64 coordinates. Scores are exact, or the share
of 20 questions answered correctly, each with that probability. Writes OUT/prompts.json.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from fastslow.evaluation import bootstrap_interval
from fastslow.prompts import (
    Proposals,
    ZopoSettings,
    best_of_initial,
    random_search,
    resample,
    search,
    zopo,
)

POOL, COORDINATES, BUMPS, WIDTH = 500, 64, 4, 0.8
HIGHEST, LOWEST = 0.95, 0.6
"""Scores of the highest and lowest bump; 1 would end a search."""
BUDGET, INITIAL, QUESTIONS = 165, 40, 20
PLACES = (3, 6, 10)
"""Coordinates of the hidden places: the more, the rarer a high score."""
SEEDS = range(20)
SURE = ZopoSettings()
UNSURE = ZopoSettings(uncertainty=5e-5)
"""Below the noise, so that neighbourhoods are evaluated where the surrogate is not certain."""

Method = Callable[[Tensor, int], Proposals]
METHODS: dict[str, Method] = {
    "initial": lambda z, seed: best_of_initial(z, initial=INITIAL, seed=seed),
    "random": lambda z, seed: random_search(z, seed=seed),
    "resample": lambda z, seed: resample(z, initial=INITIAL, seed=seed),
    "zopo": lambda z, seed: zopo(z, SURE, seed=seed),
    "zopo, uncertainty 5e-5": lambda z, seed: zopo(z, UNSURE, seed=seed),
}


def landscape(seed: int, places: int) -> tuple[Tensor, Tensor]:
    """Embeddings [POOL, COORDINATES] and true scores [POOL]; one candidate has HIGHEST."""
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(POOL, places, generator=draw, dtype=torch.float64)
    image = torch.randn(places, COORDINATES, generator=draw, dtype=torch.float64)
    tops = hidden[torch.randperm(POOL, generator=draw)[:BUMPS]]
    heights = torch.linspace(HIGHEST, LOWEST, BUMPS, dtype=torch.float64)
    far = (hidden[:, None] - tops).square().sum(-1)
    scores = (heights * torch.exp(-far / (2 * WIDTH**2))).amax(1)
    return torch.tanh(hidden @ image / places**0.5), scores


def counted(scores: Tensor, seed: int) -> Tensor:
    """The share of QUESTIONS that each candidate answers correctly."""
    draw = torch.Generator().manual_seed(seed)
    chances = torch.rand(QUESTIONS, len(scores), generator=draw, dtype=torch.float64)
    return (chances < scores).double().mean(0)


def found_by(method: Method, embeddings: Tensor, observed: Tensor, seed: int) -> tuple[int, int]:
    """The best candidate by the observed scores, and how many were evaluated."""
    done = list(search(method(embeddings, seed), lambda i: float(observed[i]), budget=BUDGET))
    return max(done, key=lambda result: result.score).candidate, len(done)


def compared(places: int, *, exact: bool) -> Iterator[dict[str, Any]]:
    """A row for each method, over all seeds."""
    means: dict[str, list[float]] = {name: [] for name in METHODS}
    counts: dict[str, list[int]] = {name: [] for name in METHODS}
    seconds = dict.fromkeys(METHODS, 0.0)
    for seed in SEEDS:
        embeddings, scores = landscape(seed, places)
        observed = scores if exact else counted(scores, seed)
        for name, method in METHODS.items():
            began = time.perf_counter()
            best, count = found_by(method, embeddings, observed, seed)
            seconds[name] += (time.perf_counter() - began) / len(SEEDS)
            means[name].append(float(scores[best]))
            counts[name].append(count)
    for name, values in means.items():
        low, high = bootstrap_interval(
            [a - b for a, b in zip(values, means["random"], strict=True)]
        )
        yield {
            "places": places,
            "scores": "exact" if exact else f"of {QUESTIONS} questions",
            "method": name,
            "score": round(fmean(values), 4),
            "optimum_found": fmean(score > HIGHEST - 1e-9 for score in values),
            "above_random": [round(bound, 4) for bound in (low, high)],
            "evaluations": fmean(counts[name]),
            "seconds": round(seconds[name], 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    rows = [row for exact in (True, False) for p in PLACES for row in compared(p, exact=exact)]
    out.mkdir(parents=True, exist_ok=True)
    lines = ",\n ".join(json.dumps(row) for row in rows)
    (out / "prompts.json").write_text(f"[{lines}]\n", encoding="utf-8")
    print(lines)


if __name__ == "__main__":
    main()
