"""Error replies in one shape, which say what to do and repeat nothing of the request."""

from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from fastslow.errors import FastslowError
from fastslow.feedback import AlreadyVoted, KeyReused, Malformed, NotGiven, UnknownItem
from fastslow.serve.engine.requests import Alike, Busy, TooLong, UnknownModel

STATUS: dict[type[FastslowError], int] = {
    UnknownItem: 404,
    NotGiven: 403,
    AlreadyVoted: 409,
    Alike: 409,
    KeyReused: 422,
    Malformed: 422,
    TooLong: 400,
    UnknownModel: 404,
    Busy: 429,
}
"""All other FastslowErrors are server errors: 503."""


class Refused(HTTPException):
    """Refuses a request with a status and a message that says what to do."""


def error_reply(status: int, message: str, headers: Any = None) -> JSONResponse:
    """An error, shaped as OpenAI's clients expect it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    return JSONResponse(body, status, headers=headers)


def add_error_replies(app: FastAPI) -> None:
    """Turn every error of a route into such a reply."""

    @app.exception_handler(FastslowError)
    async def ours(_: Request, error: FastslowError) -> JSONResponse:
        wait = {"Retry-After": "2"} if isinstance(error, Busy) else None
        return error_reply(STATUS.get(type(error), 503), str(error), wait)

    @app.exception_handler(StarletteHTTPException)
    async def refused(_: Request, error: StarletteHTTPException) -> JSONResponse:
        return error_reply(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = [_fault(detail) for detail in error.errors()]
        return error_reply(422, "; ".join(faults))

    @app.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> JSONResponse:
        return error_reply(500, "the server failed; its log has the error")


def _fault(detail: Any) -> str:
    if detail["type"] == "json_invalid":  # Its place is the index of a character.
        return f"the body is not valid JSON (character {detail['loc'][-1]})"
    return f"{_place(detail['loc'])}: {detail['msg']}"


def _place(parts: Any) -> str:
    return ".".join(str(part) for part in parts if part != "body") or "the body"
