"""Client for OpenAI-compatible servers: vLLM, llama.cpp, OpenAI and others.

Servers are not trusted: a reply is bounded in time and size and read by `openai_replies`, redirects
are not followed, and no message holds the API key.
"""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from os import environ
from threading import Thread
from typing import Any

from fastslow.errors import ConfigError, RefusedError, ReplyError, UnreachableError
from fastslow.openai_replies import Reply, quoted, read_reply

LARGEST_REPLY = 64 * 2**20
"""Bytes; a longer reply is refused."""
LONGEST_PAUSE_S = 60.0
"""Longest pause before a retry, whatever a server asks for."""
LONGEST_OWN_PAUSE_S = 8.0
"""Longest pause before a retry if the server asks for none."""
PASSING = (408, 409, 429)
"""Statuses below 500 for which a retry may help."""
SHOWN = 300
"""Characters of an error quoted in a message."""
NO_KEY = "none"


class ChatServer:
    """Sends requests, with growing pauses between retries if the connection or the server fails.

    Args:
        url: base URL of the API, as `http://127.0.0.1:8000/v1`.
        api_key_env: environment variable that holds the API key; servers that need none ignore it.
        timeout_s: for one reply, from the request to the last byte.
        retries: after failures.
        section: of the recipe that uses the server, for error messages.

    Raises ConfigError if openai is not installed. Requests raise UnreachableError if all retries
    fail or the server refuses them, and its subclass ReplyError for a reply without an answer.
    """

    def __init__(
        self, *, url: str, api_key_env: str, timeout_s: float, retries: int, section: str
    ) -> None:
        try:
            from openai import OpenAI
        except ImportError:
            raise ConfigError(f"{section}: needs openai; pip install 'fastslow[judge]'") from None
        self.url = url
        self._key = environ.get(api_key_env, "").strip() or NO_KEY
        self._timeout_s, self._retries = timeout_s, retries
        self._client = OpenAI(base_url=url, api_key=self._key, timeout=timeout_s, max_retries=0)

    def chat(self, **request: Any) -> Reply:
        """The reply to `messages`."""
        return self._reply("/chat/completions", request)

    def complete(self, **request: Any) -> Reply:
        """The completion of a plain `prompt`."""
        return self._reply("/completions", request)

    def post(self, path: str, body: Mapping[str, Any]) -> None:
        """Send a request whose reply does not matter. Any status is final, even one that names a
        server fault, as vLLM returns when it refuses an adapter that is too large."""
        self._ask(path, body, final=True)

    def _reply(self, path: str, request: Mapping[str, Any]) -> Reply:
        body = self._ask(path, request)
        try:
            return read_reply(body)
        except ReplyError as error:
            raise ReplyError(self._hidden(f"the reply of {self.url} {error}")) from None

    def _ask(self, path: str, request: Mapping[str, Any], *, final: bool = False) -> bytes:
        attempt = 0
        while True:
            try:
                return self._in_time(path, request)
            except Exception as failure:
                may_pass = _may_pass(failure) and not (final and _status(failure) is not None)
                if attempt == self._retries or not may_pass:
                    raise self._fault(failure, may_pass) from None
                pause_s = _pause_s(failure, attempt)
            attempt += 1
            time.sleep(pause_s)

    def _in_time(self, path: str, request: Mapping[str, Any]) -> bytes:
        """The body of the reply. Raises TimeoutError if it is late.

        The HTTP client's timeout restarts with every byte, so time is measured from outside; late
        requests are left to a daemon thread, so that they do not delay the exit.
        """
        result: Future[bytes] = Future()
        deadline = time.monotonic() + self._timeout_s

        def work() -> None:
            try:
                result.set_result(self._read(path, request, deadline))
            except BaseException as error:  # Raised again by result.result().
                result.set_exception(error)

        Thread(target=work, daemon=True).start()
        try:
            return result.result(self._timeout_s)
        except TimeoutError:
            raise TimeoutError(f"no whole reply within {self._timeout_s:g} seconds") from None

    def _read(self, path: str, request: Mapping[str, Any], deadline: float) -> bytes:
        from openai import Stream

        stream: Any = self._client.post(
            path,
            cast_to=object,
            body=dict(request),
            options={"follow_redirects": False},
            stream=True,
            stream_cls=Stream[object],
        )
        body = bytearray()
        try:
            for chunk in stream.response.iter_bytes():
                body += chunk
                if len(body) > LARGEST_REPLY:
                    raise _TooLong(f"the reply is longer than {LARGEST_REPLY:,} bytes")
                if time.monotonic() > deadline:
                    break  # Nobody waits for it any longer.
        finally:
            stream.response.close()
        return bytes(body)

    def _fault(self, failure: Exception, may_pass: bool) -> UnreachableError:
        message, status = quoted(failure, SHOWN), _status(failure)
        refused = status is not None and not may_pass
        if status is not None and 300 <= status < 400:
            where = quoted(_headers(failure).get("location", "elsewhere"))
            what = f"redirects to {where}; redirects are not followed, give that address"
        elif refused:
            what = f"refuses the request with status {status}: {message}"
        else:
            what = f"cannot be reached: {type(failure).__name__.lstrip('_')}: {message}"
        kind = RefusedError if refused else UnreachableError
        return kind(
            self._hidden(
                f"{self.url} {what}. Finished work is on disk; rerun the command to resume."
            )
        )

    def _hidden(self, message: str) -> str:
        """The message without the API key, which servers may send back."""
        return message if self._key == NO_KEY else message.replace(self._key, "[API key]")


class _TooLong(Exception):
    """A reply longer than any answer needs."""


def _may_pass(failure: Exception) -> bool:
    """Whether a retry may help: the connection or the server failed, or the server is busy."""
    from openai import OpenAIError

    status = _status(failure)
    if status is not None:
        return bool(status in PASSING or status >= 500)
    # Among errors that are not openai's, a request that cannot be written is a ValueError.
    return isinstance(failure, OpenAIError) or not isinstance(
        failure, (_TooLong, ValueError, TypeError)
    )


def _status(failure: Exception) -> int | None:
    """The HTTP status of an error reply; None if there was no reply."""
    status = getattr(failure, "status_code", None)
    return status if isinstance(status, int) else None


def _pause_s(failure: Exception, attempt: int) -> float:
    """The pause that the server asks for, within bounds, or one that doubles each time."""
    try:
        asked = float(_headers(failure).get("retry-after", ""))
    except ValueError:
        asked = -1.0
    if 0 <= asked <= LONGEST_PAUSE_S:
        return asked
    return float(min(0.5 * 2**attempt, LONGEST_OWN_PAUSE_S))


def _headers(failure: Exception) -> Mapping[str, str]:
    """Headers of the failed response; empty if there was none."""
    return getattr(getattr(failure, "response", None), "headers", {})
