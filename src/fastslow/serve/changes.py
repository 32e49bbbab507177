"""Tells everybody who listens that something has changed: one look at the store for all of them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from fastslow.serve.replies import Refused

LOOKS_EVERY = 0.4
"""Seconds between two looks, while anybody listens."""
MOST, MOST_EACH = 100, 8
"""Listeners, and those of one person: nobody takes all places."""
log = logging.getLogger(__name__)


class Listener:
    """Somebody who is told what has changed since they were told before."""

    def __init__(self, who: int) -> None:
        self.who = who
        self._changed: set[str] = set()
        self._woken, self._over = asyncio.Event(), False

    def tell(self, changed: set[str]) -> None:
        """These have changed."""
        self._changed |= changed
        self._woken.set()

    def end(self) -> None:
        """There is nothing more to hear."""
        self._over = True
        self._woken.set()

    async def heard(self, within: float) -> AsyncIterator[list[str]]:
        """What has changed, in order of names; nothing after so many seconds in which nothing did.
        Ends with the server, or when the store cannot be looked at."""
        while not self._over:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), within)
            self._woken.clear()
            changed, self._changed = sorted(self._changed), set()
            if changed or not self._over:
                yield changed


class Changes:
    """Who listens.

    Args:
        look: a value for each kind of thing, which is another one when something of it changed.
    """

    def __init__(self, look: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        self._look = look
        self._listeners: set[Listener] = set()
        self._looking: asyncio.Task[None] | None = None
        self._seen: Mapping[str, Any] = {}
        """At the last look; empty before the first."""
        self._closed = False

    @contextmanager
    def listening(self, who: int) -> Iterator[Listener]:
        """A listener, while the context is open; what it hears first is everything.

        Raises Refused where there are too many.
        """
        own = sum(one.who == who for one in self._listeners)
        if own >= MOST_EACH or len(self._listeners) >= MOST:
            many = f"{own} of your" if own >= MOST_EACH else f"{len(self._listeners)}"
            text = f"{many} pages listen already; close some, or try again later"
            raise Refused(429, text, {"Retry-After": "30"})
        listener = Listener(who)
        self._listeners.add(listener)
        if self._closed:
            listener.end()
        elif self._looking is None:
            self._looking = asyncio.create_task(self._watch())
        if self._seen:
            listener.tell(set(self._seen))
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._looking is not None:
                self._looking.cancel()
                self._rest()

    def close(self) -> None:
        """End all streams, also those that are still to begin: the server stops."""
        self._closed = True
        self._end_all()

    async def _watch(self) -> None:
        try:
            while True:
                found = await self._look()
                changed = {kind for kind in found if self._seen.get(kind) != found[kind]}
                self._seen = found
                if changed:
                    for one in self._listeners:
                        one.tell(changed)
                await asyncio.sleep(LOOKS_EVERY)
        except Exception as error:
            log.error("pages are not told of changes: %s", error)
            self._rest()
            self._end_all()  # They come again, each after a pause.

    def _rest(self) -> None:
        """Nobody looks until somebody listens."""
        self._looking, self._seen = None, {}

    def _end_all(self) -> None:
        for one in self._listeners:
            one.end()
