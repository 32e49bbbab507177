"""Access control: a token in every request, allowed roles for every route."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Depends, Request

from fastslow.feedback.people import Principal
from fastslow.serve.live import Live
from fastslow.serve.replies import Refused

ANYONE = ("admin", "annotator", "viewer", "service")
VOTERS = ("admin", "annotator", "service")
READERS = ("admin", "viewer", "service")
ADMINS = ("admin",)


async def live_of(request: Request) -> Live:
    """The app's `Live`. `async`, because a plain function would get a thread for each request."""
    live: Live = request.app.state.live
    return live


def allowed(roles: tuple[str, ...]) -> Any:
    """A dependency that returns the caller if their role is one of these."""
    return Depends(_check(roles))


def _check(roles: tuple[str, ...]) -> Callable[..., Coroutine[Any, Any, Principal]]:
    async def principal(request: Request) -> Principal:
        live = await live_of(request)
        who = await _who(live, request)
        if not live.may_ask(str(who.id)):
            raise Refused(429, "too many requests; wait a minute", {"Retry-After": "60"})
        if who.role not in roles:
            raise Refused(
                403, f"this needs one of the roles {', '.join(roles)}; yours is {who.role}"
            )
        return who

    return principal


def token_of(request: Request) -> str:
    """The bearer token of a request; empty without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _who(live: Live, request: Request) -> Principal:
    if token := token_of(request):
        who = await live.principal(token)
        if who is not None:
            return who
    # The limit is for requests without a valid token only: many people may share an address.
    if not live.may_fail(request.client.host if request.client else ""):
        raise Refused(429, "too many wrong tokens; wait a minute", {"Retry-After": "60"})
    text = "send a valid token: Authorization: Bearer ..."
    raise Refused(401, text, {"WWW-Authenticate": "Bearer"})
