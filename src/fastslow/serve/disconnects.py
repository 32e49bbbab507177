"""Work for a client that may go away before it is done."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from fastslow.serve.replies import Refused

T = TypeVar("T")
GONE = 499
"""What proxies write into their logs; nobody is there to read it."""


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What work comes to. It is cancelled when the client goes away; raises Refused then."""
    done, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((done, gone), return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise Refused(GONE, "the client has gone away")
        return done.result()
    finally:
        for one in (done, gone):
            one.cancel()
        await asyncio.gather(done, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
