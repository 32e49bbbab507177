"""Rows in TRL's formats to pairs. Raises RowError with the reason where a row cannot be used.

Accepted, as plain text or as lists of {role, content} messages:

    prompt, chosen, rejected
    chosen, rejected                       the prompt is what both begin with
    prompt, completions, scores | ranks    one pair for every two answers (higher score, lower rank)

each with optional `verdict` (`chosen` or `tie`), `domain`, `score_chosen`, `score_rejected`.
Other columns are kept as provenance.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from fastslow.records import Message, Pair, Text, Verdict

ROLES = ("system", "user", "assistant", "tool", "developer")
_MEANINGFUL = {
    "prompt", "chosen", "rejected", "completions", "scores", "ranks",
    "verdict", "domain", "score_chosen", "score_rejected",
}  # fmt: skip


class RowError(Exception):
    """Why a row cannot be used."""


def pairs_of_row(row: Mapping[str, Any], *, source: str, domain: str | None = None) -> list[Pair]:
    """The pairs a row stands for: one, or one for every two answers of a ranked list."""
    provenance = {key: value for key, value in row.items() if key not in _MEANINGFUL}
    common: dict[str, Any] = {
        "domain": _domain(row, domain),
        "source": source,
        "provenance": provenance,
    }
    if row.get("completions") is not None:
        return _ranked_pairs(row, common)
    if row.get("chosen") is None or row.get("rejected") is None:
        missing = [key for key in ("chosen", "rejected") if row.get(key) is None]
        raise RowError(f"no {' and no '.join(missing)} (columns: {', '.join(map(str, row))})")
    prompt, chosen, rejected = _prompted(row)
    return [
        _pair(
            prompt,
            chosen,
            rejected,
            verdict=_verdict(row),
            score_chosen=_number(row, "score_chosen"),
            score_rejected=_number(row, "score_rejected"),
            **common,
        )
    ]


def row_of_pair(pair: Pair) -> dict[str, Any]:
    """The row that stands for a pair, as JSON; what it was read from becomes provenance."""
    row: dict[str, Any] = {
        "prompt": _json_text(pair.prompt),
        "chosen": _json_text(pair.chosen),
        "rejected": _json_text(pair.rejected),
        "domain": pair.domain,
        "verdict": pair.verdict,
        "source": pair.source,
    }
    scores = {"score_chosen": pair.score_chosen, "score_rejected": pair.score_rejected}
    return row | {key: value for key, value in scores.items() if value is not None}


def _json_text(text: Text) -> Any:
    if isinstance(text, str):
        return text
    return [{"role": turn.role, "content": turn.content} for turn in text]


def _ranked_pairs(row: Mapping[str, Any], common: dict[str, Any]) -> list[Pair]:
    if row.get("prompt") is None:
        raise RowError("completions without a prompt")
    prompt = read_text(row["prompt"], "prompt")
    completions = row["completions"]
    if not isinstance(completions, Sequence) or isinstance(completions, str):
        raise RowError("completions must be a list")
    if len(completions) < 2:
        raise RowError(f"completions has {len(completions)} answers; at least 2 are needed")
    answers = [
        _without_prompt(read_text(answer, f"completions[{i}]"), prompt)
        for i, answer in enumerate(completions)
    ]
    if row.get("verdict") is not None:
        raise RowError("verdict belongs to chosen and rejected; completions have scores or ranks")
    values = _values(row, len(answers))
    scores = values if row.get("scores") is not None else None
    pairs = []
    for i, j in combinations(range(len(answers)), 2):
        better, worse = (i, j) if values[i] >= values[j] else (j, i)
        equal = values[i] == values[j] or answers[i] == answers[j]
        pairs.append(
            _pair(
                prompt,
                answers[better],
                answers[worse],
                verdict="tie" if equal else "chosen",
                score_chosen=scores[better] if scores else None,
                score_rejected=scores[worse] if scores else None,
                **common,
            )
        )
    return pairs


def _values(row: Mapping[str, Any], count: int) -> list[float]:
    """How good each answer is, higher is better."""
    key = "scores" if row.get("scores") is not None else "ranks"
    values = row.get(key)
    if values is None:
        raise RowError("completions without scores or ranks")
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
        raise RowError(f"{key} must be a list with one number for each of the {count} completions")
    numbers = [_number({key: value}, key) for value in values]
    if any(number is None for number in numbers):
        raise RowError(f"{key} has an empty entry")
    sign = 1.0 if key == "scores" else -1.0
    return [sign * number for number in numbers if number is not None]


def _prompted(row: Mapping[str, Any]) -> tuple[Text, Text, Text]:
    chosen, rejected = read_text(row["chosen"], "chosen"), read_text(row["rejected"], "rejected")
    if row.get("prompt") is not None:
        prompt = read_text(row["prompt"], "prompt")
        return prompt, _without_prompt(chosen, prompt), _without_prompt(rejected, prompt)
    if isinstance(chosen, str) and isinstance(rejected, str):
        cut = _shared_text(chosen, rejected)
    elif isinstance(chosen, tuple) and isinstance(rejected, tuple):
        cut = _shared_messages(chosen, rejected)
    else:
        raise RowError("chosen and rejected must both be text or both be messages")
    if cut == 0:
        raise RowError("no prompt, and chosen and rejected do not begin alike")
    return chosen[:cut], chosen[cut:], rejected[cut:]


def _shared_text(first: str, second: str) -> int:
    """Length of the shared beginning, ending before the blank that precedes the first new word."""
    cut = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        cut += 1
    while cut and not first[cut - 1].isspace():
        cut -= 1
    # One space belongs to the response, as tokenizers attach it to the word that follows.
    if cut and first[cut - 1] == " ":
        cut -= 1
    return cut


def _shared_messages(first: tuple[Message, ...], second: tuple[Message, ...]) -> int:
    cut = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        cut += 1
    return cut


def _without_prompt(answer: Text, prompt: Text) -> Text:
    """A conversation that repeats its prompt, less the prompt."""
    if isinstance(answer, str):
        return answer
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return answer[len(turns) :] if answer[: len(turns)] == turns else answer


def _pair(prompt: Text, chosen: Text, rejected: Text, *, verdict: Verdict, **rest: Any) -> Pair:
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        raise RowError("the prompt is empty")
    if isinstance(prompt, tuple) and prompt[-1].role == "assistant":
        raise RowError("the prompt ends with an assistant turn; end it where the answer begins")
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        _check_answer(name, answer)
    if chosen == rejected and verdict != "tie":
        raise RowError("chosen and rejected are identical")
    return Pair(prompt=prompt, chosen=chosen, rejected=rejected, verdict=verdict, **rest)


def _check_answer(name: str, answer: Text) -> None:
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
        raise RowError(f"{key} holds a {type(item).__name__} where a message should be")
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
        raise RowError(f"{key} has half a character at {error.start} (a cut surrogate)") from None
    return text


def _domain(row: Mapping[str, Any], default: str | None) -> str:
    domain = row.get("domain")
    if domain is None:
        return default or "default"
    if not isinstance(domain, str) or not domain.strip():
        raise RowError(f"domain must be a name, not {domain!r}")
    return domain


def _verdict(row: Mapping[str, Any]) -> Verdict:
    verdict = row.get("verdict")
    if verdict is None or verdict == "chosen":
        return "chosen"
    if verdict == "tie":
        return "tie"
    raise RowError(f"verdict is {verdict!r}; allowed are 'chosen' and 'tie'")


def _number(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise RowError(f"{key} must be a number, not {value!r}")
    return float(value)
