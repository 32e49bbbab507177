"""Caches the store's statistics, which take a read of all that is stored."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastslow.feedback.statistics import Statistics

PAUSE = 20
"""Pause after a computation, as a multiple of its duration: at most a twentieth of a core."""
MINUTE = 60


@dataclass(frozen=True, slots=True)
class Figures:
    """Statistics, and how old they are."""

    statistics: Statistics
    at: float
    """When they were computed, Unix seconds."""
    again_in_s: float | None
    """Seconds until newer ones can be computed; None if these are current."""


class KnownFigures:
    """The latest statistics.

    Args:
        find: computes them for a time.
        look: returns values of `votes` and `people` that differ after a change of either.
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
        """The statistics, computed again if something has changed and the last time is long ago.

        Changes to people show at once.
        """
        async with self._finding:
            now, current = self._clock(), await self._look()
            # Votes age without any change; in hourly counts a minute does not show.
            marks = current["people"], current["votes"], now // MINUTE
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
