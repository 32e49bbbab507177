"""Single columns of a row, checked. Raises RowError with the reason where one cannot be used."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, get_args

from fastslow.records import (
    Message,
    Text,
    Verdict,
)

ROLES = ("system", "user", "assistant", "tool", "developer")


VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class RowError(Exception):
    """Why a row cannot be used."""


def truncated_of(row: Mapping[str, Any], count: int) -> tuple[bool, ...]:
    """Which responses were truncated; empty if none was."""
    key = "truncated" if row.get("truncated") is not None else "unended"  # Its name before 0.2.
    given = row.get(key)
    if given is None:
        return ()
    listed = isinstance(given, Sequence) and all(isinstance(one, bool) for one in given)
    if not listed or len(given) != count:
        raise RowError(f"{key} must be a list of {count} times true or false, not {given!r}")
    return tuple(given) if any(given) else ()


def values_of(row: Mapping[str, Any], count: int) -> list[float]:
    """How good each answer is, higher is better."""
    key = "scores" if row.get("scores") is not None else "ranks"
    values = row.get(key)
    if values is None:
        raise RowError("completions without scores or ranks")
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
        raise RowError(f"{key} must be a list with one number for each of the {count} completions")
    entries = {f"{key}[{place}]": value for place, value in enumerate(values)}
    numbers = [number_of(entries, entry) for entry in entries]
    if any(number is None for number in numbers):
        raise RowError(f"{key} has an empty entry")
    sign = 1.0 if key == "scores" else -1.0
    return [sign * number for number in numbers if number is not None]


def check_prompt(prompt: Text) -> None:
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        raise RowError("the prompt is empty")
    if isinstance(prompt, tuple) and prompt[-1].role == "assistant":
        raise RowError("the prompt ends with an assistant turn; end it before the response")


def check_answer(name: str, answer: Text) -> None:
    if isinstance(answer, str):
        if not answer.strip():
            raise RowError(f"{name} is empty")
        return
    if not answer or not answer[-1].content.strip():
        raise RowError(f"{name} is empty")
    if answer[0].role not in ("assistant", "tool"):
        raise RowError(f"{name} begins with a {answer[0].role} turn that is not the prompt's")
    if answer[-1].role != "assistant":
        raise RowError(f"{name} ends with a {answer[-1].role} turn, not with the assistant's")


def read_text(value: Any, key: str) -> Text:
    """The text or turns in a column, named `key` in the RowError of one that holds neither."""
    if isinstance(value, str):
        return _unicode(value, key)
    if isinstance(value, Mapping):
        return (_message(value, key),)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return tuple(_message(item, key) for item in value)
    raise RowError(f"{key} must be text or a list of messages, not {type(value).__name__}")


def _message(item: Any, key: str) -> Message:
    if not isinstance(item, Mapping):
        raise RowError(f"{key} has {type(item).__name__} where a message should be")
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise RowError(f"{key} has a turn with role {role!r}; allowed are {', '.join(ROLES)}")
    if item.get("tool_calls"):
        raise RowError(f"{key} has tool calls, which are not supported")
    if not isinstance(content, str):
        raise RowError(f"{key} has a turn whose content is {type(content).__name__}, not text")
    return Message(role, _unicode(content, key))


def _unicode(text: str, key: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowError(f"{key} has half a character at {error.start} (a lone surrogate)") from None
    return text


def domain_of(row: Mapping[str, Any], default: str | None) -> str:
    domain = row.get("domain")
    if domain is None:
        return default or "default"
    if not isinstance(domain, str) or not domain.strip():
        raise RowError(f"domain must be a name, not {domain!r}")
    return domain


def verdict_of(row: Mapping[str, Any]) -> tuple[Verdict, float]:
    """The verdict on a pair and the probability that it is right."""
    verdicts = row.get("verdicts")
    if verdicts is None:
        verdict = row.get("verdict")
        return "chosen" if verdict is None else _verdict(verdict, VERDICTS), _confidence(row)
    if row.get("verdict") is not None or row.get("confidence") is not None:
        raise RowError(
            "verdicts cannot be combined with verdict and confidence; give one or the other"
        )
    if not isinstance(verdicts, Sequence) or isinstance(verdicts, str) or not verdicts:
        raise RowError("verdicts must be a list of at least one verdict")
    given = [_verdict(verdict, (*VERDICTS, "rejected")) for verdict in verdicts]
    if all(verdict == "both_bad" for verdict in given):
        return "both_bad", 1.0
    wins = given.count("chosen") + 0.5 * (given.count("tie") + given.count("both_bad"))
    share = wins / len(given)
    return ("tie", 1.0) if share == 0.5 else ("chosen", share)


def _verdict(verdict: Any, allowed: Sequence[str]) -> Any:
    if verdict not in allowed:
        named = ", ".join(repr(one) for one in allowed)
        hint = "; or swap chosen and rejected" if verdict == "rejected" else ""
        raise RowError(f"verdict is {verdict!r}; allowed are {named}{hint}")
    return verdict


def weight_of(row: Mapping[str, Any]) -> float:
    weight = number_of(row, "weight")
    if weight is not None and not 0 <= weight < float("inf"):
        raise RowError(f"weight must be 0 or above, not {weight!r}")
    return 1.0 if weight is None else weight


def _confidence(row: Mapping[str, Any]) -> float:
    confidence = share_of(row, "confidence")
    return 1.0 if confidence is None else confidence


def share_of(row: Mapping[str, Any], key: str) -> float | None:
    value = number_of(row, key)
    if value is not None and not 0 <= value <= 1:
        raise RowError(f"{key} must be from 0 to 1, not {value!r}")
    return value


def number_of(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise RowError(f"{key} must be a finite number, not {value!r}")
    return float(value)
