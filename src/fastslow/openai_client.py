"""Client for OpenAI-compatible servers: vLLM, llama.cpp, OpenAI and others."""

from os import environ
from typing import Any

from fastslow.errors import ConfigError, UnreachableError


class ChatServer:
    """Sends requests, again with growing pauses where the connection or the server fails.

    Args:
        url: base URL of the API, as `http://127.0.0.1:8000/v1`.
        api_key_env: environment variable that holds the API key; servers that need none ignore it.
        timeout_s: for one reply.
        retries: after failures.
        section: of the recipe that asks for it, for errors.

    Raises ConfigError where openai is not installed; requests raise UnreachableError when all
    retries have failed.
    """

    def __init__(
        self, *, url: str, api_key_env: str, timeout_s: float, retries: int, section: str
    ) -> None:
        try:
            from openai import OpenAI
        except ImportError:
            raise ConfigError(f"{section}: needs openai; pip install 'fastslow[judge]'") from None
        self.url = url
        self._client = OpenAI(
            base_url=url,
            api_key=environ.get(api_key_env) or "none",
            timeout=timeout_s,
            max_retries=retries,
        )

    def chat(self, **request: Any) -> Any:
        """The reply to `messages`."""
        return self._ask(self._client.chat.completions.create, **request)

    def complete(self, **request: Any) -> Any:
        """The completion of a plain `prompt`."""
        return self._ask(self._client.completions.create, **request)

    def post(self, path: str, body: dict[str, Any]) -> None:
        """Send something to which only success matters."""
        self._ask(self._client.post, path=path, body=body, cast_to=str)

    def _ask(self, call: Any, **request: Any) -> Any:
        from openai import OpenAIError

        try:
            return call(**request)
        except OpenAIError as error:
            raise UnreachableError(
                f"{self.url} cannot be reached: {type(error).__name__}: {error}. Finished work is "
                "on disk; rerun the command to resume."
            ) from error
