"""Sums with their counts, so that no mean of means is taken by mistake."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class MetricSums:
    """Named sums over the same items.

    >>> metrics = MetricSums()
    >>> metrics.add({"loss": 6.0}, count=3)
    >>> metrics.add({"loss": 2.0}, count=1)
    >>> metrics.means()
    {'loss': 2.0}
    """

    count: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """Counts of the sums that are over other items."""

    def add(
        self,
        sums: Mapping[str, float],
        *,
        count: int,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Add sums over `count` further items; `counts` says of which number others are, and
        names the same ones in every call."""
        self.count += count
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        for name, num_items in (counts or {}).items():
            self.counts[name] = self.counts.get(name, 0) + num_items

    def means(self) -> dict[str, float]:
        """Each sum over its count; metrics without values are omitted."""
        counts = {name: self.counts.get(name, self.count) for name in self.sums}
        return {name: self.sums[name] / counts[name] for name in self.sums if counts[name]}
