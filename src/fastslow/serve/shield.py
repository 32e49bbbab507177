"""Middleware before every route: checks host names and body sizes, adds security headers."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastslow.serve.replies import error_reply

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; font-src 'self'; manifest-src 'self'; worker-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Shield:
    """ASGI middleware; pure, so that streams and disconnects pass through it unchanged."""

    def __init__(self, app: ASGIApp, *, hosts: tuple[str, ...], largest_body: int) -> None:
        self._app, self._largest = app, largest_body
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])

        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                reply_headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    reply_headers.setdefault(name, value)
                reply_headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if _name(headers.get(b"host", b"")) not in self._hosts:
            text = "this host name is not served; add it with --host-name"
            return await error_reply(400, text)(scope, receive, safe)
        body = await self._body(headers, receive)
        if body is None:
            text = f"the body is larger than {self._largest:,} bytes"
            return await error_reply(413, text)(scope, receive, safe)
        return await self._app(scope, _replayed(body, receive), safe)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body; None if it is too large."""
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._largest:
            return None
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                break
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._largest:
                return None
        return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Receives the body that was read, then whatever follows, such as a disconnect."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _name(host: bytes) -> str:
    """A host header without its port."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0]
