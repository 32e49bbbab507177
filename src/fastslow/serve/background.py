"""Background tasks: votes into the ledger, pairs to compare, messages to other servers.

Of several servers on one store, only one at a time does each of these; all follow the routes, and
each adds the new prompts to its own router.
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
"""Pairs sampled in parallel, so that the engine has room for other requests."""
KNOWN_AT_ONCE = 128
"""Prompts added to the router at once, so that requests wait only briefly."""
FOLLOWS_EVERY = 0.25
"""Seconds between two reads of the routes."""
log = logging.getLogger(__name__)


@asynccontextmanager
async def working(app: FastAPI) -> AsyncIterator[None]:
    """The app's lifespan: runs the background tasks while the server runs."""
    live: Live = app.state.live
    every = live.settings.admit_every
    if live.engine is not None:
        live.router.learn(await live.read(newest_labelled, most=MOST))
        await follow(live)  # What was served before a restart answers again at once.
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
    """Move votes whose grace is over into the ledger, and queue messages about them."""
    facts = {
        "check": fault_of,
        "grace": live.settings.grace,
        "tell": live.settings.webhook is not None,
    }
    while (await live.write(ledger.admit, **facts)).more:
        pass


async def know_prompts(live: Live) -> None:
    """Add new prompts with a named domain to the router, KNOWN_AT_ONCE at a time."""
    newest = -1
    while newest < live.router.newest:
        newest = live.router.newest
        prompts = await live.read(labelled_since, number=newest, limit=KNOWN_AT_ONCE)
        live.router.learn(prompts)


async def follow(live: Live) -> None:
    """Apply the store's routes to the engine, if there is one."""
    if live.engine is None or live.served is None:
        return
    async with live.following:  # Otherwise an older read could be applied after a newer one.
        wanted = await live.read(served)
        await run_in_threadpool(live.served.follow, live.engine, wanted)


async def make_pairs(live: Live) -> None:
    """Sample pairs from the engine while there are few that nobody has got."""
    ahead = live.settings.pairs_ahead
    while live.prompts and (missing := ahead - await live.read(items.new_pairs, most=ahead)) > 0:
        # In parallel: an engine answers several in about the time of one.
        chosen = live.draw.choices(live.prompts, k=min(missing, MADE_AT_ONCE))
        if not any(await asyncio.gather(*(_make_pair(live, prompt) for prompt in chosen))):
            return  # Otherwise this could loop without end.


async def _make_pair(live: Live, prompt: Prompt) -> bool:
    """Sample a pair for a prompt, and drop the prompt if it is too long for the engine.

    Returns whether another prompt may do better at once.
    """
    try:
        await sampled_pair(live, turns_of(prompt.prompt), domain=prompt.domain)
    except Alike as error:
        log.warning("%s gives no pair: %s", prompt.source, error)
        return False
    except TooLong as error:
        others = [other for other in live.prompts if other != prompt]
        if len(others) < len(live.prompts):
            log.warning("%s is skipped: %s", prompt.source, error)
        live.prompts = others
    return True


Work = Callable[[Live], Awaitable[None]]


def _in_turn(work: Work) -> Work:
    """The work, skipped while another server is doing it."""

    @wraps(work)
    async def in_turn(live: Live) -> None:
        async with contextmanager_in_threadpool(live.store.turn(work.__name__)) as is_ours:
            if is_ours:
                await work(live)

    return in_turn


async def _again_and_again(live: Live, work: Work, every: float) -> None:
    while True:
        try:
            await work(live)
        except FastslowError as error:
            log.error("%s failed: %s", work.__name__, error)
        except Exception:  # The cause may be temporary, such as too many open files.
            log.exception("%s failed", work.__name__)
        await asyncio.sleep(every)
