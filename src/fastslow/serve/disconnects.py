"""Work that is cancelled when its client disconnects."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from fastslow.serve.replies import Refused

T = TypeVar("T")
GONE = 499
"""Status that proxies log; no client is left to read it."""


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`. If the client disconnects first, cancels it and raises Refused."""
    task, disconnect = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refused(GONE, "the client has gone away")
        return task.result()
    finally:
        for future in (task, disconnect):
            future.cancel()
        await asyncio.gather(task, disconnect, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
