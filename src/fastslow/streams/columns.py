"""Single columns of a row, checked. Raises RowError with the reason where one cannot be used."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, get_args

from fastslow.records import THOUGHTS, Message, Text, Verdict

ROLES = ("system", "user", "assistant", "tool", "developer")
OTHER_ROLES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "observation": "tool",
    "function": "tool",
}
SHOWN = 80
"""Characters of a value that a message shows."""

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class RowError(Exception):
    """Why a row cannot be used."""


def shown(value: Any, *, quoted: bool = True) -> str:
    """The beginning of a value, for a message."""
    try:
        text = repr(value) if quoted else str(value)
    except ValueError:  # Numbers of thousands of digits.
        text = f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def truncated_of(row: Mapping[str, Any], count: int) -> tuple[bool, ...]:
    """Which responses were truncated; empty if none was."""
    key = "truncated" if row.get("truncated") is not None else "unended"  # Its name before 0.2.
    given = row.get(key)
    if given is None:
        return ()
    listed = isinstance(given, Sequence) and all(isinstance(one, bool) for one in given)
    if not listed or len(given) != count:
        raise RowError(f"{key} must be a list of {count} times true or false, not {shown(given)}")
    return tuple(given) if any(given) else ()


def values_of(row: Mapping[str, Any], count: int) -> list[float]:
    """How good each answer is, higher is better."""
    given = {key: _numbers_of(row, key, count) for key in ("scores", "ranks") if row.get(key)}
    if not given:
        raise RowError("completions without scores or ranks")
    scores, ranks = given.get("scores"), given.get("ranks")
    if scores and ranks:
        pairs = [(a, b) for a in range(count) for b in range(count) if scores[a] > scores[b]]
        if any(ranks[a] > ranks[b] for a, b in pairs):
            raise RowError("scores and ranks contradict each other; leave one of them out")
    return scores or [-rank for rank in ranks or []]


def _numbers_of(row: Mapping[str, Any], key: str, count: int) -> list[float]:
    values = row[key]
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
        raise RowError(f"{key} must be a list with one number for each of the {count} completions")
    entries = {f"{key}[{place}]": value for place, value in enumerate(values)}
    numbers = [number_of(entries, entry) for entry in entries]
    if any(number is None for number in numbers):
        raise RowError(f"{key} has an empty entry")
    return [number for number in numbers if number is not None]


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


def label_of(row: Mapping[str, Any]) -> bool | None:
    """Whether a response is liked: true or false, or 1 or 0."""
    label = row.get("label")
    if label is None:
        return None
    if not isinstance(label, bool | int | float) or label not in (0, 1):
        raise RowError(f"label must be true or false, or 1 or 0, not {shown(label)}")
    return bool(label)


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
    fields = dict(item)
    for name, theirs in (("role", "from"), ("content", "value")):  # As ShareGPT has them.
        if name not in fields and theirs in fields:
            fields[name] = fields.pop(theirs)
    role, content = fields.pop("role", None), fields.pop("content", None)
    named = role.lower() if isinstance(role, str) else role
    named = OTHER_ROLES.get(named, named) if isinstance(named, str) else named
    if named not in ROLES:
        raise RowError(f"{key} has a turn with role {shown(role)}; allowed are {', '.join(ROLES)}")
    extra = {name: plain(value) for name, value in fields.items() if value not in (None, "", [])}
    _check_extra(extra, key)
    if content is None and extra.get("tool_calls"):
        content = ""
    return Message(named, _unicode(_joined(content, key), key), extra)


def _check_extra(extra: Mapping[str, Any], key: str) -> None:
    for name in THOUGHTS:
        if not isinstance(extra.get(name, ""), str):
            raise RowError(f"{key} has a turn whose {name} is not text: {shown(extra[name])}")
    calls = extra.get("tool_calls", [])
    if not isinstance(calls, list) or not all(_is_call(call) for call in calls):
        raise RowError(f"{key} has tool_calls that are no list of named calls: {shown(calls)}")


def _is_call(call: Any) -> bool:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    return isinstance(function, Mapping) and isinstance(function.get("name"), str)


def _joined(content: Any, key: str) -> str:
    """The text of a turn, which may come in parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, bytes | bytearray):
        raise RowError(f"{key} has a turn whose content is {type(content).__name__}, not text")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        text = part.get("text") if isinstance(part, Mapping) else part
        if kind not in ("text", "input_text", "output_text", "str") or not isinstance(text, str):
            raise RowError(f"{key} has a part of type {shown(kind)}; models of text see text only")
        texts.append(text)
    return "".join(texts)


def plain(value: Any) -> Any:
    """A value as JSON has it; what JSON has no word for, a date, bytes or NaN, as text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(plain(str(key))): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value)


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
        raise RowError(f"domain must be a name, not {shown(domain)}")
    return _unicode(domain, "domain")


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
        raise RowError(f"verdict is {shown(verdict)}; allowed are {named}{hint}")
    return verdict


def weight_of(row: Mapping[str, Any]) -> float:
    weight = number_of(row, "weight")
    if weight is not None and not 0 <= weight < float("inf"):
        raise RowError(f"weight must be 0 or above, not {shown(weight)}")
    return 1.0 if weight is None else weight


def _confidence(row: Mapping[str, Any]) -> float:
    confidence = share_of(row, "confidence")
    return 1.0 if confidence is None else confidence


def share_of(row: Mapping[str, Any], key: str) -> float | None:
    value = number_of(row, key)
    if value is not None and not 0 <= value <= 1:
        raise RowError(f"{key} must be from 0 to 1, not {shown(value)}")
    return value


def number_of(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, int | float) else float("nan")
    except OverflowError:  # A whole number beyond the largest float.
        number = float("nan")
    if isinstance(value, bool) or not isfinite(number):
        raise RowError(f"{key} must be a finite number, not {shown(value)}")
    return number
