"""What ZOPO is compared with: methods that take the same pool and the same budget."""

import random

from torch import Tensor

from fastslow.prompts.search import Evaluated, Proposals, begin, check_pool

ELITE = 0.1
"""Share of the evaluated candidates, the best ones, that new ones are drawn near to."""


def random_search(embeddings: Tensor, *, seed: int) -> Proposals:
    """All candidates of a pool in a random order."""
    yield from begin(Evaluated(embeddings), len(embeddings), seed=seed)


def best_of_initial(embeddings: Tensor, *, initial: int, seed: int) -> Proposals:
    """The random candidates that the other methods begin with, and no more."""
    yield from begin(Evaluated(embeddings), initial, seed=seed)


def resample(embeddings: Tensor, *, initial: int, seed: int) -> Proposals:
    """Iterative resampling in the manner of APE (arXiv 2211.01910).

    After the first ones, variants of the best tenth so far. APE has a model write a variant; here
    it is the nearest candidate of the pool that was not evaluated, so that all methods choose from
    the same ones. Raises ConfigError for embeddings that are not finite.
    """
    known = Evaluated(check_pool(embeddings))
    yield from begin(known, initial, seed=seed)
    draw = random.Random(seed)
    while not known.complete:
        ranked = sorted(known.scores, key=known.scores.__getitem__, reverse=True)
        parent = draw.choice(ranked[: max(1, round(ELITE * len(ranked)))])
        candidate = known.nearest_new(known.embeddings[parent])
        known.add(candidate, (yield candidate))
