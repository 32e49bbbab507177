"""Which phrases are in several texts, without keeping all those that are in one."""

from collections.abc import Iterable, Set

import numpy as np

BUCKETS = 1 << 22
"""Counts. Long texts have a thousand phrases each, hardly any of which comes twice."""


class Frequent:
    """Knows phrases that may be in at least so many sets; others are surely in fewer.

    Args:
        sets: of phrases.
        fewest: sets that have one.
    """

    def __init__(self, sets: Iterable[Set[str]], fewest: int) -> None:
        self._counts, self._fewest = np.zeros(BUCKETS, np.uint32), fewest
        for phrases in sets:
            np.add.at(self._counts, [hash(one) % BUCKETS for one in phrases], 1)

    def of(self, phrases: Iterable[str]) -> set[str]:
        """Those of some phrases."""
        counts, fewest = self._counts, self._fewest
        return {one for one in phrases if counts[hash(one) % BUCKETS] >= fewest}
