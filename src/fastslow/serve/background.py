"""What a server does beside its requests: votes into the ledger, messages to other servers.

Of several servers that share a store one at a time does each of these; all follow the routes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import wraps

from fastapi import FastAPI
from fastapi.concurrency import contextmanager_in_threadpool
from starlette.concurrency import run_in_threadpool

from fastslow.errors import FastslowError
from fastslow.feedback import items, ledger
from fastslow.feedback.imports import turns_of
from fastslow.feedback.labelled import labelled_since, newest_labelled
from fastslow.feedback.updates import served
from fastslow.records import Prompt
from fastslow.serve.answering import sampled_pair
from fastslow.serve.engine.requests import Alike, TooLong
from fastslow.serve.live import Live
from fastslow.serve.router import MOST
from fastslow.serve.webhooks import send
from fastslow.streams import fault_of

MADE_AT_ONCE = 3
"""Pairs that are asked for together; the engine has room for others' requests beside them."""
KNOWN_AT_ONCE = 128
"""Prompts that the router is told of together: no request waits for more."""
FOLLOWS_EVERY = 0.25
"""Seconds between two looks at the routes."""
log = logging.getLogger(__name__)


@asynccontextmanager
async def working(app: FastAPI) -> AsyncIterator[None]:
    """While the server runs."""
    live: Live = app.state.live
    every = live.settings.admit_every
    if live.engine is not None:
        live.router.learn(await live.read(newest_labelled, most=MOST))
        await follow(live)  # What was served before the server stopped answers from its start.
    works = [_again_and_again(live, _in_turn(admit), every)]
    if live.engine is not None:
        works.append(_again_and_again(live, know_prompts, every))
    if live.engine is not None and live.prompts:
        works.append(_again_and_again(live, _in_turn(make_pairs), every))
    if live.engine is not None and live.served is not None:
        works.append(_again_and_again(live, follow, FOLLOWS_EVERY))
    if live.settings.webhook is not None:
        works.append(_again_and_again(live, _in_turn(send), every))
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def admit(live: Live) -> None:
    """Give the votes whose grace is over their place, and tell of it."""
    facts = {
        "check": fault_of,
        "grace": live.settings.grace,
        "tell": live.settings.webhook is not None,
    }
    while (await live.write(ledger.admit, **facts)).more:
        pass


async def know_prompts(live: Live) -> None:
    """Have the router know the prompts that have come with a domain, some at a time."""
    known = -1
    while known < live.router.newest:
        known = live.router.newest
        new = await live.read(labelled_since, number=known, limit=KNOWN_AT_ONCE)
        live.router.learn(new)


async def follow(live: Live) -> None:
    """Have what the routes say answer, where anything does."""
    if live.engine is None or live.served is None:
        return
    async with live.following:  # Or what was read earlier could be followed later.
        wanted = await live.read(served)
        await run_in_threadpool(live.served.follow, live.engine, wanted)


async def make_pairs(live: Live) -> None:
    """Have the engine answer prompts twice while there are few pairs that nobody has got."""
    ahead = live.settings.pairs_ahead
    while live.prompts and (lacking := ahead - await live.read(items.new_pairs, most=ahead)) > 0:
        # Together, as an engine answers several in about the time of one.
        asked = live.draw.choices(live.prompts, k=min(lacking, MADE_AT_ONCE))
        if not any(await asyncio.gather(*(_make_pair(live, one) for one in asked))):
            return  # What answers is not asked without an end.


async def _make_pair(live: Live, prompt: Prompt) -> bool:
    """Have the engine answer a prompt twice; one that is too long for it is asked once only.
    Whether another may do better at once."""
    try:
        await sampled_pair(live, turns_of(prompt.prompt), domain=prompt.domain)
    except Alike as error:
        log.warning("%s makes no pair now: %s", prompt.source, error)
        return False
    except TooLong as error:
        others = [one for one in live.prompts if one != prompt]
        if len(others) < len(live.prompts):
            log.warning("%s is skipped: %s", prompt.source, error)
        live.prompts = others
    return True


Work = Callable[[Live], Awaitable[None]]


def _in_turn(work: Work) -> Work:
    """Work that is left out where another server is at it."""

    @wraps(work)
    async def in_turn(live: Live) -> None:
        async with contextmanager_in_threadpool(live.store.turn(work.__name__)) as own:
            if own:
                await work(live)

    return in_turn


async def _again_and_again(live: Live, work: Work, every: float) -> None:
    while True:
        try:
            await work(live)
        except FastslowError as error:
            log.error("%s failed: %s", work.__name__, error)
        except Exception:  # Whatever it was may pass, as too many open files do.
            log.exception("%s failed", work.__name__)
        await asyncio.sleep(every)
