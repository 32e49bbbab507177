"""What every request of a server shares: the store, the clock, limits and settings."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.concurrency import run_in_threadpool

from fastslow.feedback import Store
from fastslow.feedback.marks import marks
from fastslow.feedback.people import Principal, principal_of
from fastslow.feedback.statistics import Statistics, statistics
from fastslow.feedback.updates import all_routes
from fastslow.feedback.voting import GRACE
from fastslow.records import Prompt
from fastslow.serve.changes import Changes
from fastslow.serve.engine.requests import BASE, LONGEST_ANSWER
from fastslow.serve.figures import KnownFigures
from fastslow.serve.router import Router
from fastslow.serve.served import Served

if TYPE_CHECKING:
    from fastslow.serve.answering import Engine

T = TypeVar("T")
KNOWN_FOR = 2.0
"""Seconds until a server notices that another one on the same store disabled somebody."""
MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a server."""

    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    """Accepted host names; others are refused, because a foreign page could use one."""
    largest_body: int = 1 << 20
    """Largest request body, in bytes."""
    requests: str = "1200/minute"
    """Rate limit of one person."""
    failures: str = "30/minute"
    """Rate limit of one address for requests without a valid token."""
    grace: float = GRACE
    """Seconds until a vote enters the ledger."""
    admit_every: float = 2.0
    """Seconds between two checks of the waiting votes."""
    pairs_ahead: int = 12
    """New pairs that the engine keeps ready, if there are prompts for it."""
    watched: float = 0.2
    """Share of these pairs that compare the current model with the previous one."""
    answer_tokens: int = LONGEST_ANSWER
    """Longest answer of a pair, or of a chat that names no limit, in tokens."""
    webhook: str | None = None
    """URL that messages are sent to."""
    webhook_secret: str | None = field(default=None, repr=False)
    """Key that signs them, base64."""


class Live:
    """State of a running server."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        engine: "Engine | None" = None,
        prompts: Sequence[Prompt] = (),
        folder: Path | None = None,
    ) -> None:
        self.served = Served(folder) if folder is not None else None
        self.following = asyncio.Lock()
        self.router = Router()
        self.prompts = prompts
        self.store, self.settings, self.clock, self.engine = store, settings, clock, engine
        self.draw = random.Random()
        self.changes = Changes(self.marks)
        self.figures = KnownFigures(self._statistics, self.marks, clock)
        self.started_with = list(engine.models)[-1] if engine else BASE
        self._known: dict[str, tuple[float, Principal]] = {}
        # Fixed windows would let through more than the limit around their boundaries.
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._requests, self._failures = parse(settings.requests), parse(settings.failures)

    async def write(self, work: Callable[..., T], **named: Any) -> T:
        """The result of a write, once it is on disk; `work` gets the time as `now`."""
        future = self.store.submit(work, now=self.clock(), **named)
        return await asyncio.wrap_future(future)

    async def read(self, work: Callable[..., T], **named: Any) -> T:
        """The result of a function that reads from a connection to the store."""

        def call() -> T:
            with self.store.read() as connection:
                return work(connection, **named)

        return await run_in_threadpool(call)

    async def marks(self) -> dict[str, Any]:
        """A value for each kind of thing, which differs after a change of it."""
        in_store, routes = await self.read(
            lambda connection: (marks(connection), all_routes(connection))
        )
        models = [(route, self.model_for(route.domain)) for route in routes]
        return {**in_store, "updates": (in_store["updates"], models)}

    async def _statistics(self, now: float) -> Statistics:
        return await self.read(statistics, now=now)

    def model_for(self, domain: str) -> str:
        """The default model of a domain: what its route says, else the adapter that the server was
        started with, else the base."""
        routed = self.served.model_for(domain) if self.served else None
        return routed or self.started_with

    def watched_model(self, domain: str) -> str | None:
        """The previous model, if the next pair is to compare it with the current one."""
        if self.served is None or self.draw.random() >= self.settings.watched:
            return None
        return self.served.before(domain)

    def update_of(self, model: str) -> int | None:
        """Id of the update that made an adapter, if one did."""
        return self.served.update_of(model) if self.served else None

    def token_text(self, token: int) -> str:
        """The engine's text of a token."""
        return self.engine.token_text(token) if self.engine else ""

    async def principal(self, token: str) -> Principal | None:
        """The owner of a token, cached for KNOWN_FOR seconds."""
        now = self.clock()
        until, who = self._known.get(token, (0.0, None))
        if who is None or now >= until:
            who = await self.read(principal_of, token=token)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            if who is not None:
                self._known[token] = (now + KNOWN_FOR, who)
        return who

    def forget_principals(self) -> None:
        """Empty the cache, because somebody's token or rights have changed."""
        self._known.clear()

    def may_ask(self, who: str) -> bool:
        """Count a request; whether it is within the person's limit."""
        return self._limiter.hit(self._requests, who)

    def may_fail(self, address: str) -> bool:
        """Count a request without a valid token; whether it is within the address's limit."""
        return self._limiter.hit(self._failures, "failures", address)
