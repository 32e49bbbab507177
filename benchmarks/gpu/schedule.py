"""Runs parts of a benchmark in order of importance until the time is up.

A part starts if its expected time is left. Expected times come from one machine, and are corrected
by how long the parts so far took in relation to theirs.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Tell = Callable[[dict[str, Any]], None]
"""Called with a part's results so far, which count if it ends early."""


@dataclass(frozen=True, slots=True)
class Part:
    """One measurement."""

    name: str
    seconds: float
    """Expected time, start included."""


class Schedule:
    """The time available, and the parts that fit in it.

    Args:
        minutes: time limit for all parts.
        clock: seconds, from any origin.
    """

    def __init__(self, minutes: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._end = self._began + 60 * minutes
        self._expected = self._took = 0.0

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    @property
    def left(self) -> float:
        """Seconds to the end."""
        return self._end - self._clock()

    def expected(self, part: Part) -> float:
        """Expected seconds, by the pace of the parts so far."""
        pace = self._took / self._expected if self._expected else 1.0
        return part.seconds * pace

    def run(
        self,
        parts: Sequence[Part],
        measure: Callable[[Part, float], Any],
        store: Callable[[str, Any], None],
    ) -> None:
        """Measure the parts that fit; `measure` gets the seconds left, `store` every result."""
        for part in parts:
            expected, left = self.expected(part), self.left
            if expected > left:
                reason = f"no time left: {expected:.0f} s expected, {max(left, 0):.0f} s left"
                store(part.name, {"skipped": reason})
                continue
            began = self._clock()
            result = measure(part, left)
            if "failed" not in result:  # A failure says nothing about the pace.
                self._expected += part.seconds
                self._took += self._clock() - began
            store(part.name, result)
