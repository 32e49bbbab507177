"""Finds phrases that occur in several texts, without storing all those that occur in one."""

from collections.abc import Iterable, Set

import numpy as np

BUCKETS = 1 << 22
"""Number of counters. Long texts have a thousand phrases each, and hardly any occurs twice."""


class Frequent:
    """Finds phrases that may be in at least `fewest` sets; all others are surely in fewer.

    Args:
        sets: sets of phrases.
        fewest: number of sets that a phrase must be in.
    """

    def __init__(self, sets: Iterable[Set[str]], fewest: int) -> None:
        self._counts, self._fewest = np.zeros(BUCKETS, np.uint32), fewest
        for phrases in sets:
            np.add.at(self._counts, [hash(phrase) % BUCKETS for phrase in phrases], 1)

    def of(self, phrases: Iterable[str]) -> set[str]:
        """Those of the phrases that may be in enough sets."""
        counts, fewest = self._counts, self._fewest
        return {phrase for phrase in phrases if counts[hash(phrase) % BUCKETS] >= fewest}
