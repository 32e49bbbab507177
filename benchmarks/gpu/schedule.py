"""Parts of a benchmark in the order of what they are worth, until the time is up.

A part begins if what it is expected to take is left. Expectations are those of one machine; what
the parts so far took against theirs corrects them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Tell = Callable[[dict[str, Any]], None]
"""Is given what a part knows so far, which counts if it comes to an early end."""


@dataclass(frozen=True, slots=True)
class Part:
    """One measurement."""

    name: str
    seconds: float
    """That it is expected to take, with its start."""


class Schedule:
    """The time there is, and what fits in it.

    Args:
        minutes: after which nothing runs any more.
        clock: seconds, of any beginning.
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
        """Seconds, by the pace of the parts so far."""
        pace = self._took / self._expected if self._expected else 1.0
        return part.seconds * pace

    def run(
        self,
        parts: Sequence[Part],
        measure: Callable[[Part, float], Any],
        store: Callable[[str, Any], None],
    ) -> None:
        """Measure what fits; `measure` is given the seconds left, `store` every result at once."""
        for part in parts:
            expected, left = self.expected(part), self.left
            if expected > left:
                said = f"no time left: {expected:.0f} s expected, {max(left, 0):.0f} s left"
                store(part.name, {"skipped": said})
                continue
            began = self._clock()
            result = measure(part, left)
            if "failed" not in result:  # A failure says nothing of the pace.
                self._expected += part.seconds
                self._took += self._clock() - began
            store(part.name, result)
