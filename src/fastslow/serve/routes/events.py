"""An event stream that says what has changed and should be fetched again."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from fastslow.errors import FastslowError
from fastslow.serve.access import token_of
from fastslow.serve.changes import Listener
from fastslow.serve.live import Live
from fastslow.serve.routes.data import Reader
from fastslow.serve.routes.voting import Shared

router = APIRouter(prefix="/v1")
ALIVE_EVERY = 15.0
"""Seconds between keep-alive comments, each after a check that the token is still valid."""
log = logging.getLogger(__name__)


async def _listener(who: Reader, live: Shared) -> AsyncIterator[Listener]:
    """Open until the reply has ended."""
    with live.changes.listening(who.id) as listener:
        yield listener


@router.get("/events", response_model=None)
async def events(
    request: Request, live: Shared, listener: Annotated[Listener, Depends(_listener)]
) -> StreamingResponse:
    """Server-sent events `{"changed": [...]}` of `votes`, `updates` and `people`; first, all."""
    stream = _stream(live, listener, token_of(request))
    return StreamingResponse(
        stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _stream(live: Live, listener: Listener, token: str) -> AsyncIterator[str]:
    async for changed in listener.heard(ALIVE_EVERY):
        if changed:
            yield f"data: {json.dumps({'changed': changed})}\n\n"
        elif await _may_listen(live, token):
            yield ": still here\n\n"
        else:
            return


async def _may_listen(live: Live, token: str) -> bool:
    try:
        return await live.principal(token) is not None
    except FastslowError as error:
        log.error("a stream ends: %s", error)
        return False
