"""Notifies listeners of changes in the store, which is polled once for all of them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from fastslow.serve.replies import Refused

LOOKS_EVERY = 0.4
"""Seconds between two polls, while anybody listens."""
MOST, MOST_EACH = 100, 8
"""Most listeners, and most of one person, so that nobody takes all places."""
log = logging.getLogger(__name__)


class Listener:
    """Collects what has changed since it was last read."""

    def __init__(self, who: int) -> None:
        self.who = who
        self._changed: set[str] = set()
        self._woken, self._over = asyncio.Event(), False

    def tell(self, changed: set[str]) -> None:
        """Mark these kinds as changed."""
        self._changed |= changed
        self._woken.set()

    def end(self) -> None:
        """End the iteration of `heard`."""
        self._over = True
        self._woken.set()

    async def heard(self, within: float) -> AsyncIterator[list[str]]:
        """The kinds that changed, sorted; an empty list after `within` seconds without a change.
        Ends when the server stops or the store cannot be read."""
        while not self._over:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), within)
            self._woken.clear()
            changed, self._changed = sorted(self._changed), set()
            if changed or not self._over:
                yield changed


class Changes:
    """All listeners, and the task that polls the store for them.

    Args:
        look: returns a value for each kind of thing, which differs after a change of it.
    """

    def __init__(self, look: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        self._look = look
        self._listeners: set[Listener] = set()
        self._looking: asyncio.Task[None] | None = None
        self._seen: Mapping[str, Any] = {}
        """Values at the last poll; empty before the first."""
        self._closed = False

    @contextmanager
    def listening(self, who: int) -> Iterator[Listener]:
        """A listener while the context is open; its first event names every kind.

        Raises Refused if there are too many.
        """
        by_person = sum(other.who == who for other in self._listeners)
        if by_person >= MOST_EACH or len(self._listeners) >= MOST:
            count = f"{by_person} of your" if by_person >= MOST_EACH else f"{len(self._listeners)}"
            text = f"{count} pages are listening already; close some, or try again later"
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
        """End all streams, including later ones: the server stops."""
        self._closed = True
        self._end_all()

    async def _watch(self) -> None:
        try:
            while True:
                values = await self._look()
                changed = {kind for kind in values if self._seen.get(kind) != values[kind]}
                self._seen = values
                if changed:
                    for listener in self._listeners:
                        listener.tell(changed)
                await asyncio.sleep(LOOKS_EVERY)
        except Exception as error:
            log.error("cannot notify pages of changes: %s", error)
            self._rest()
            self._end_all()  # Pages reconnect, each after a pause.

    def _rest(self) -> None:
        """Stop polling until somebody listens."""
        self._looking, self._seen = None, {}

    def _end_all(self) -> None:
        for listener in self._listeners:
            listener.end()
