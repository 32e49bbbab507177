"""ZOPO, localised zeroth-order prompt optimisation: arXiv 2403.02993.

From the best of some random candidates, steps up the mean of a surrogate that knows the nearest
evaluated candidates; each step is projected to the nearest candidate that was not evaluated.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastslow.prompts.search import Evaluated, Proposals, begin, check_pool
from fastslow.prompts.surrogate import NtkKernel, Prediction, Surrogate

MOST_STEPS = 2
"""Steps from one query to the next; only the place of the last is queried."""


@dataclass(frozen=True, slots=True)
class ZopoSettings:
    """As in the paper's script."""

    initial: int = 40
    """Random candidates to begin with."""
    learning_rate: float = 0.01
    """Of Adam, in the units of the embeddings."""
    tolerance: int = 2
    """Queries in a row without a record, after more of which the search returns to the best."""
    uncertainty: float = 0.01
    """Variance of the surrogate above which it is not trusted."""
    patience: int = 5
    """Steps in a row above it, after which the neighbourhood is evaluated."""
    fitted: int = 20
    """Evaluated candidates, the nearest ones, that the surrogate is fitted on."""
    neighbors: int = 10
    """Candidates in a neighbourhood."""
    noise: float = 1e-4
    """Variance of a score, for the surrogate."""


def zopo(embeddings: Tensor, settings: ZopoSettings, *, seed: int) -> Proposals:
    """Proposes candidates as ZOPO does, until all are evaluated.

    Args:
        embeddings: one row for each candidate, [N, d].
        seed: of the candidates to begin with. The surrogate's network is the same for every seed.

    Raises ConfigError for embeddings that are not finite.
    """
    known = Evaluated(check_pool(embeddings))
    yield from begin(known, settings.initial, seed=seed)
    walk = _Walk(known, settings)
    stale = uncertain = 0
    while not known.complete:
        if stale > settings.tolerance:
            walk.restart()
            stale = 0
        here = walk.predict()
        unsure = abs(here.variance) > settings.uncertainty
        uncertain = uncertain + 1 if unsure else 0
        if not here.gradient.any() or uncertain >= settings.patience:
            near = known.new_among_nearest(walk.point, settings.neighbors)
            for candidate in near:
                known.add(candidate, (yield candidate))
            if near:
                stale = uncertain = 0
                continue
        walk.step(here)
        for _ in range(MOST_STEPS - 1 if not unsure else 0):
            walk.step(walk.predict())
        record = known.add(walk.candidate, (yield walk.candidate))
        stale = 0 if record else stale + 1


class _Walk:
    """A point that moves from candidate to candidate, with Adam's moments."""

    def __init__(self, known: Evaluated, settings: ZopoSettings) -> None:
        self._known, self._settings = known, settings
        self._kernel = NtkKernel(known.embeddings.shape[1])
        self.restart()

    def restart(self) -> None:
        """Go to the best candidate so far, with fresh moments."""
        self.candidate = self._known.best
        self.point = self._known.embeddings[self.candidate].clone()
        self._adam = torch.optim.Adam(
            [self.point], lr=self._settings.learning_rate, maximize=True, foreach=False
        )

    def predict(self) -> Prediction:
        """What a surrogate fitted around the point makes of it."""
        near = self._known.nearest(self.point, self._settings.fitted)
        scores = torch.tensor([self._known.scores[place] for place in near], dtype=torch.float64)
        points = self._known.embeddings[near]
        surrogate = Surrogate(self._kernel, points, scores, noise=self._settings.noise)
        return surrogate.predict(self.point)

    def step(self, here: Prediction) -> None:
        """One step up the mean, then to the nearest candidate that was not evaluated."""
        self.point.grad = here.gradient
        self._adam.step()
        self.candidate = self._known.nearest_new(self.point)
        self.point.copy_(self._known.embeddings[self.candidate])
