"""The store's statistics, which read all that is kept: not found again for everybody who asks."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastslow.feedback.statistics import Statistics

PAUSE = 20
"""Times as long as it took, in which it is not done again: a twentieth of a core at most."""
MINUTE = 60


@dataclass(frozen=True, slots=True)
class Figures:
    """Statistics, and how old they are."""

    statistics: Statistics
    at: float
    """When they were found, Unix seconds."""
    again_in_s: float | None
    """Seconds until newer ones can be had; None while there are none."""


class KnownFigures:
    """The last statistics.

    Args:
        find: has them found, for a time.
        look: what changes as soon as they do, of votes and of people.
        clock: Unix seconds.
        timer: seconds.
    """

    def __init__(
        self,
        find: Callable[[float], Awaitable[Statistics]],
        look: Callable[[], Awaitable[Mapping[str, Any]]],
        clock: Callable[[], float],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._look, self._clock, self._timer = find, look, clock, timer
        self._finding = asyncio.Lock()
        self._known: Figures | None = None
        self._marks: tuple[Any, ...] = ()
        self._next = 0.0

    async def now(self) -> Figures:
        """What there is: found now if something has changed and the last time is long enough ago.

        What an admin does to people shows at once.
        """
        async with self._finding:
            now, found = self._clock(), await self._look()
            # Votes grow older without any change: a minute is not seen in hours.
            marks = found["people"], found["votes"], now // MINUTE
            if self._known is None or marks[0] != self._marks[0]:
                return await self._found(now, marks)
            wait = self._next - self._timer()
            if marks == self._marks:
                return self._known
            if wait <= 0:
                return await self._found(now, marks)
            return Figures(self._known.statistics, self._known.at, wait)

    async def _found(self, now: float, marks: tuple[Any, ...]) -> Figures:
        began = self._timer()
        self._known = Figures(await self._find(now), now, None)
        ended = self._timer()
        self._marks, self._next = marks, ended + PAUSE * (ended - began)
        return self._known
