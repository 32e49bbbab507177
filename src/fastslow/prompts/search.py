"""A search in a pool of candidates: what is proposed is evaluated, until a budget is spent.

A method is a generator: it yields the place of a candidate in the pool and is sent its score. It
never yields one twice, and with the same seed and scores it yields the same ones, so that a search
that was interrupted is resumed by sending it again what is known already.
"""

import random
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastslow.errors import ConfigError

Proposals = Generator[int, float, None]
"""Yields places of candidates, is sent their scores."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One candidate of a search, evaluated."""

    candidate: int
    """Its place in the pool."""
    score: float


@dataclass
class Evaluated:
    """The candidates of a pool that were evaluated so far, in order."""

    embeddings: Tensor
    """Of all candidates, [N, d]."""
    scores: dict[int, float] = field(default_factory=dict)

    @property
    def best(self) -> int:
        """The candidate with the highest score; of several the first."""
        return max(self.scores, key=self.scores.__getitem__)

    @property
    def complete(self) -> bool:
        """Whether none is left."""
        return len(self.scores) == len(self.embeddings)

    def add(self, candidate: int, score: float) -> bool:
        """Take in a score; whether it is above all before."""
        record = not self.scores or score > self.scores[self.best]
        self.scores[candidate] = score
        return record

    def nearest(self, point: Tensor, count: int) -> list[int]:
        """The evaluated candidates nearest to a point, the nearest first."""
        return [place for place in self._by_distance(point) if place in self.scores][:count]

    def nearest_new(self, point: Tensor) -> int:
        """The candidate nearest to a point that was not evaluated."""
        return next(place for place in self._by_distance(point) if place not in self.scores)

    def new_among_nearest(self, point: Tensor, count: int) -> list[int]:
        """Those of the `count` candidates nearest to a point that were not evaluated."""
        near = self._by_distance(point)[:count]
        return [place for place in near if place not in self.scores]

    def _by_distance(self, point: Tensor) -> list[int]:
        distances = (self.embeddings - point).square().sum(1)
        places: list[int] = distances.argsort(stable=True).tolist()
        return places


def search(
    proposals: Proposals,
    evaluate: Callable[[int], float],
    *,
    budget: int,
    target: float = 1.0,
) -> Iterator[Evaluation]:
    """Evaluate what a method proposes, until it has nothing more, `budget` candidates were
    evaluated, or one reached the target."""
    score: float | None = None
    for _ in range(budget):
        try:
            candidate = next(proposals) if score is None else proposals.send(score)
        except StopIteration:
            return
        score = evaluate(candidate)
        yield Evaluation(candidate, score)
        if score >= target:
            return


def begin(known: Evaluated, count: int, *, seed: int) -> Proposals:
    """The first `count` candidates in a random order, the same ones for every method."""
    places = range(len(known.embeddings))
    for candidate in random.Random(seed).sample(places, len(places))[:count]:
        known.add(candidate, (yield candidate))


def check_pool(embeddings: Tensor) -> Tensor:
    """Embeddings as float64. Raises ConfigError unless they are one finite row a candidate."""
    if embeddings.dim() != 2 or not len(embeddings):
        raise ConfigError(
            f"embeddings: got the shape {list(embeddings.shape)}; give one row for each candidate"
        )
    if not bool(embeddings.isfinite().all()):
        raise ConfigError("embeddings: hold numbers that are not finite; embed the pool again")
    return embeddings.detach().to("cpu", torch.float64)
