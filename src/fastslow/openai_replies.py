"""Parses replies of OpenAI-compatible servers without trusting their form."""

import json
from dataclasses import dataclass
from typing import Any

from fastslow.errors import ReplyError

SHOWN = 120
"""Characters of a reply quoted in a message."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers in a reply."""

    text: str
    finish_reason: str | None
    tokens: tuple[int, ...] = ()
    """Token ids, if the server returns them (vLLM's `return_token_ids`)."""
    logps: tuple[float, ...] = ()
    """Log-prob of each token, nats, if requested and returned."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answers in a reply, in the order of their index, and its metadata."""

    choices: tuple[Choice, ...]
    model: str | None
    """The model that answered, as the server names it."""
    prompt_tokens: int
    """0 if the server does not count them."""
    completion_tokens: int


def read_reply(body: bytes) -> Reply:
    """The reply to a chat or a completion request. Raises ReplyError if the body is not one."""
    data = _decoded(body)
    if not isinstance(data, dict):
        raise ReplyError(f"is JSON but no object: {quoted(body)}")
    if data.get("error"):
        raise ReplyError(f"is an error: {quoted(data['error'])}")
    model, usage = data.get("model"), data.get("usage")
    return Reply(
        choices=_choices(data.get("choices")),
        model=model if isinstance(model, str) else None,
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
    )


def _decoded(body: bytes) -> Any:
    if not body.strip():
        raise ReplyError("is empty")
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ReplyError(f"is no JSON: {quoted(body)}") from None


def _choices(given: Any) -> tuple[Choice, ...]:
    if not isinstance(given, list) or not given:
        raise ReplyError(f"has no list of choices: {quoted(given)}")
    if not all(isinstance(choice, dict) for choice in given):
        raise ReplyError(f"has choices that are no objects: {quoted(given)}")
    places = [choice.get("index", place) for place, choice in enumerate(given)]
    if any(type(place) is not int for place in places) or sorted(places) != [*range(len(given))]:
        raise ReplyError(f"has {len(given)} choices with the indices {quoted(places)}")
    ordered = sorted(zip(places, given, strict=True), key=lambda placed: placed[0])
    return tuple(_choice(choice) for _, choice in ordered)


def _choice(given: dict[str, Any]) -> Choice:
    text, finish = _text(given), given.get("finish_reason")
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # Lone surrogates.
        raise ReplyError(f"has a message that is no Unicode text: {quoted(text)}")
    return Choice(
        text,
        finish if isinstance(finish, str) else None,
        tokens=_tokens(given.get("token_ids")),
        logps=_logps(given.get("logprobs")),
    )


def _tokens(given: Any) -> tuple[int, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or any(type(token) is not int or token < 0 for token in given):
        raise ReplyError(f"has token_ids that are no tokens: {quoted(given)}")
    return tuple(given)


def _logps(given: Any) -> tuple[float, ...]:
    """Log-probs of the sampled tokens: in `content` for a chat, in a list for a completion."""
    if not isinstance(given, dict):
        return ()
    content = given.get("content")
    values = given.get("token_logprobs")
    if isinstance(content, list):
        values = [part.get("logprob") if isinstance(part, dict) else None for part in content]
    if values is None:
        return ()
    if not isinstance(values, list) or any(type(value) not in (int, float) for value in values):
        raise ReplyError(f"has logprobs that are no numbers: {quoted(given)}")
    return tuple(float(value) for value in values)


def _text(choice: dict[str, Any]) -> str:
    """The text of a plain completion, or of the assistant's message; empty if there is none."""
    if isinstance(choice.get("text"), str):
        return str(choice["text"])
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ReplyError(f"has a choice without a message: {quoted(choice)}")
    if message.get("role", "assistant") not in ("assistant", None):
        raise ReplyError(f"has a message of the role {quoted(message['role'])}")
    content = message.get("content")
    parts = content if isinstance(content, list) else [content or ""]
    contents = [part.get("text") if isinstance(part, dict) else part for part in parts]
    texts = [text for text in contents if isinstance(text, str)]
    if len(texts) < len(contents):
        raise ReplyError(f"has a message whose content is no text: {quoted(content)}")
    return "".join(texts)


def _count(usage: Any, key: str) -> int:
    value = usage.get(key) if isinstance(usage, dict) else None
    return value if type(value) is int and value >= 0 else 0


def quoted(value: Any, length: int = SHOWN) -> str:
    """The beginning of a value, on one line and without control characters."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    line = " ".join(text[: 4 * length].split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in line)
    return shown if len(shown) <= length else shown[:length] + "..."
