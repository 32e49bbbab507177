"""The FastAPI application: all routes behind the `Shield` middleware."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles

from fastslow.serve.background import working
from fastslow.serve.live import Live
from fastslow.serve.replies import add_error_replies
from fastslow.serve.routes import chat, consolidations, data, domains, events, learning, voting
from fastslow.serve.shield import Shield

WEB = Path(__file__).with_name("web")
FRESH = {"Cache-Control": "no-cache"}
"""Browsers cache the files but revalidate them: another version's scripts would not fit."""


class Fresh(StaticFiles):
    """The page's files, with `FRESH` headers."""

    def file_response(self, *args: Any, **named: Any) -> Response:
        reply = super().file_response(*args, **named)
        reply.headers.update(FRESH)
        return reply


def make_app(live: Live) -> FastAPI:
    """The ASGI application of a server; the caller closes the store."""
    app = FastAPI(
        title="fastslow", docs_url=None, redoc_url=None, openapi_url=None, lifespan=working
    )
    app.state.live = live
    app.include_router(voting.router)
    app.include_router(data.router)
    app.include_router(chat.router)
    app.include_router(learning.router)
    app.include_router(events.router)
    app.include_router(consolidations.router)
    app.include_router(domains.router)
    app.add_middleware(Shield, hosts=live.settings.hosts, largest_body=live.settings.largest_body)
    add_error_replies(app)

    @app.get("/")
    async def page() -> FileResponse:
        """The page. It holds no data of the store; its requests carry the user's token."""
        return FileResponse(WEB / "index.html", headers=FRESH)

    app.mount("/web", Fresh(directory=WEB))

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        """Health check: the store can be read. Needs no token and reveals nothing else."""
        await live.read(lambda connection: connection.exec_driver_sql("SELECT 1"))
        return PlainTextResponse("ok")

    return app
