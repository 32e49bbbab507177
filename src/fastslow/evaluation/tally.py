"""Sums with their counts, so that a mean of means cannot happen."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Named sums over the same items.

    >>> tally = Tally()
    >>> tally.add({"loss": 6.0}, count=3)
    >>> tally.add({"loss": 2.0}, count=1)
    >>> tally.means()
    {'loss': 2.0}
    """

    count: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, sums: Mapping[str, float], *, count: int) -> None:
        """Add sums over `count` further items."""
        self.count += count
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Each sum over the count; empty before anything was added."""
        return {name: value / self.count for name, value in self.sums.items()}
