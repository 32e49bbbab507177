"""Rows in TRL's formats to examples. Raises RowError with the reason where a row cannot be used.

Accepted, as plain text or as lists of {role, content} messages:

    prompt, chosen, rejected               a pair
    chosen, rejected                       the prompt is their common beginning
    prompt, completions, scores | ranks    a ranked list (higher score, lower rank is better)
    prompt, completion, label              a response with binary feedback (true, false)
    prompt, completion                     a demonstration
    messages                               a demonstration: the last turn answers the others

each with optional `domain`, `weight` and `truncated` (for each response in the order above, whether
it was cut by a length limit: it is then trained without an end-of-turn token); pairs also with
`verdict` (`chosen`, `tie`, `both_bad`), `score_chosen`, `score_rejected`, `win_rate_chosen`,
`win_rate_rejected` and `confidence`, or with `verdicts`, a list of the verdicts of several
annotators, or of one who saw both orders.
Other columns are kept as provenance.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from math import isfinite
from typing import Any, get_args

from fastslow.records import (
    Demonstration,
    Example,
    Message,
    Pair,
    Prompt,
    Ranking,
    Rating,
    Text,
    Verdict,
)

ROLES = ("system", "user", "assistant", "tool", "developer")
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_MEANINGFUL = {
    "prompt", "chosen", "rejected", "completions", "scores", "ranks", "completion", "label",
    "messages", "verdict", "verdicts", "domain", "weight", "confidence", "score_chosen",
    "score_rejected", "win_rate_chosen", "win_rate_rejected", "truncated", "unended",
}  # fmt: skip
_OPTIONAL = sorted(
    _MEANINGFUL - {"prompt", "chosen", "rejected", "completions", "completion", "messages"}
)
_OF_PAIRS = ("score_chosen", "score_rejected", "win_rate_chosen", "win_rate_rejected")
_JUDGEMENTS = ("verdict", "verdicts", "confidence")


class RowError(Exception):
    """Why a row cannot be used."""


def read_row(row: Mapping[str, Any], *, source: str, domain: str | None = None) -> Example:
    """The example in a row."""
    common = _origin(row, source, domain)
    if row.get("chosen") is not None and row.get("rejected") is not None:
        return _pair(row, common)
    if stray := [key for key in (*_JUDGEMENTS, *_OF_PAIRS) if row.get(key) is not None]:
        raise RowError(f"{', '.join(stray)}: for rows with chosen and rejected only")
    if row.get("completions") is not None:
        return _ranking(row, common)
    if row.get("completion") is not None or row.get("messages") is not None:
        return _single(row, common)
    missing = [key for key in ("chosen", "rejected") if row.get(key) is None]
    raise RowError(f"no {' and no '.join(missing)} (columns: {', '.join(map(str, row))})")


def read_prompt(row: Mapping[str, Any], *, source: str, domain: str | None = None) -> Prompt:
    """The prompt of a row, explicit or the common beginning of its responses."""
    if row.get("prompt") is None:
        prompt = read_row(row, source=source).prompt
    else:
        prompt = read_text(row["prompt"], "prompt")
        _check_prompt(prompt)
    return Prompt(prompt, **_origin(row, source, domain))


def row_of(example: Example) -> dict[str, Any]:
    """An example as a JSON row; its source becomes provenance."""
    row: dict[str, Any] = {"prompt": json_text(example.prompt)}
    if isinstance(example, Pair):
        row |= {
            "chosen": json_text(example.chosen),
            "rejected": json_text(example.rejected),
            "domain": example.domain,
            "verdict": example.verdict,
            "source": example.source,
        }
        given = {key: getattr(example, key) for key in _OF_PAIRS}
        row |= {key: value for key, value in given.items() if value is not None}
        if example.confidence != 1.0:
            row["confidence"] = example.confidence
    elif isinstance(example, Ranking):
        row["completions"] = [json_text(response) for response in example.responses]
        if example.scores is None:
            row["ranks"] = list(example.ranks)
        else:
            row["scores"] = list(example.scores)
    else:
        row["completion"] = json_text(example.response)
        if isinstance(example, Rating):
            row["label"] = example.desirable
    row |= {"domain": example.domain, "source": example.source}
    if any(example.truncated):
        row["truncated"] = list(example.truncated)
    return row if example.weight == 1.0 else row | {"weight": example.weight}


def _origin(row: Mapping[str, Any], source: str, domain: str | None) -> dict[str, Any]:
    """What is known of every row, whatever its label."""
    return {
        "domain": _domain(row, domain),
        "weight": _weight(row),
        "source": source,
        "provenance": {k: _plain(value) for k, value in row.items() if k not in _MEANINGFUL},
    }


def _plain(value: Any) -> Any:
    """A column's value as JSON has it; what JSON has no word for, a date or bytes, as text."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value)


def json_text(text: Text) -> Any:
    """The text, or its turns, as a row holds them."""
    if isinstance(text, str):
        return text
    return [{"role": turn.role, "content": turn.content} for turn in text]


def _pair(row: Mapping[str, Any], common: dict[str, Any]) -> Pair:
    prompt, chosen, rejected = _prompted(row)
    _check_prompt(prompt)
    _check_answer("chosen", chosen)
    _check_answer("rejected", rejected)
    verdict, confidence = _judged(row)
    if chosen == rejected and verdict == "chosen":
        raise RowError("chosen and rejected are identical")
    scores = _number(row, "score_chosen"), _number(row, "score_rejected")
    rates = _share(row, "win_rate_chosen"), _share(row, "win_rate_rejected")
    truncated = _truncated(row, 2)
    if confidence < 0.5:
        # The opposite of the columns' names is likelier.
        chosen, rejected, confidence = rejected, chosen, 1 - confidence
        scores, rates, truncated = scores[::-1], rates[::-1], truncated[::-1]
    return Pair(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        verdict=verdict,
        confidence=confidence,
        score_chosen=scores[0],
        score_rejected=scores[1],
        win_rate_chosen=rates[0],
        win_rate_rejected=rates[1],
        truncated=truncated,
        **common,
    )


def _ranking(row: Mapping[str, Any], common: dict[str, Any]) -> Ranking:
    if row.get("prompt") is None:
        raise RowError("completions without a prompt")
    prompt = read_text(row["prompt"], "prompt")
    _check_prompt(prompt)
    completions = row["completions"]
    if not isinstance(completions, Sequence) or isinstance(completions, str):
        raise RowError("completions must be a list")
    if len(completions) < 2:
        raise RowError(f"completions needs at least 2 responses, not {len(completions)}")
    answers = [
        _without_prompt(read_text(answer, f"completions[{i}]"), prompt)
        for i, answer in enumerate(completions)
    ]
    for i, answer in enumerate(answers):
        _check_answer(f"completions[{i}]", answer)
    values = _values(row, len(answers))
    best_first = sorted(range(len(answers)), key=lambda i: -values[i])
    distinct = sorted(set(values), reverse=True)
    scored = row.get("scores") is not None
    truncated = _truncated(row, len(answers))
    return Ranking(
        prompt=prompt,
        responses=tuple(answers[i] for i in best_first),
        ranks=tuple(distinct.index(values[i]) for i in best_first),
        scores=tuple(values[i] for i in best_first) if scored else None,
        truncated=tuple(truncated[i] for i in best_first) if truncated else (),
        **common,
    )


def _single(row: Mapping[str, Any], common: dict[str, Any]) -> Rating | Demonstration:
    if row.get("completion") is not None:
        if row.get("prompt") is None:
            raise RowError("completion without a prompt")
        prompt = read_text(row["prompt"], "prompt")
        response = _without_prompt(read_text(row["completion"], "completion"), prompt)
    else:
        turns = read_text(row["messages"], "messages")
        if isinstance(turns, str):
            raise RowError("messages must be a list of messages")
        if not turns or turns[-1].role != "assistant":
            raise RowError(
                "messages must end with the assistant's turn, which is the training target"
            )
        prompt, response = turns[:-1], turns[-1:]
    _check_prompt(prompt)
    _check_answer("the answer", response)
    label, truncated = row.get("label"), _truncated(row, 1)
    if label is None:
        return Demonstration(prompt, response, truncated=truncated, **common)
    if not isinstance(label, bool):
        raise RowError(f"label must be true or false, not {label!r}")
    return Rating(prompt, response, label, truncated=truncated, **common)


def _truncated(row: Mapping[str, Any], count: int) -> tuple[bool, ...]:
    """Which responses were truncated; empty if none was."""
    key = "truncated" if row.get("truncated") is not None else "unended"  # Its name before 0.2.
    given = row.get(key)
    if given is None:
        return ()
    listed = isinstance(given, Sequence) and all(isinstance(one, bool) for one in given)
    if not listed or len(given) != count:
        raise RowError(f"{key} must be a list of {count} times true or false, not {given!r}")
    return tuple(given) if any(given) else ()


def _values(row: Mapping[str, Any], count: int) -> list[float]:
    """How good each answer is, higher is better."""
    key = "scores" if row.get("scores") is not None else "ranks"
    values = row.get(key)
    if values is None:
        raise RowError("completions without scores or ranks")
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
        raise RowError(f"{key} must be a list with one number for each of the {count} completions")
    entries = {f"{key}[{place}]": value for place, value in enumerate(values)}
    numbers = [_number(entries, entry) for entry in entries]
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
        raise RowError("no prompt, and chosen and rejected have no common beginning")
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


def _check_prompt(prompt: Text) -> None:
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        raise RowError("the prompt is empty")
    if isinstance(prompt, tuple) and prompt[-1].role == "assistant":
        raise RowError("the prompt ends with an assistant turn; end it before the response")


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
        raise RowError(f"{key} has {type(item).__name__} where a message should be")
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise RowError(f"{key} has a turn with role {role!r}; allowed are {', '.join(ROLES)}")
    if item.get("tool_calls"):
        raise RowError(f"{key} has tool calls, which are not supported")
    if not isinstance(content, str):
        raise RowError(f"{key} has a turn whose content is {type(content).__name__}, not text")
    return Message(role, _unicode(content, key))


def odd_columns(examples: Iterable[Example]) -> list[str]:
    """Warnings of columns that mean nothing here but are named nearly as one that does."""
    names = dict.fromkeys(key for example in examples for key in example.provenance)
    found = {name: get_close_matches(name, _OPTIONAL, n=1, cutoff=0.8) for name in names}
    return [
        f"the column {name!r} is not used; did you mean {close[0]!r}?"
        for name, close in found.items()
        if close
    ]


def _unicode(text: str, key: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowError(f"{key} has half a character at {error.start} (a lone surrogate)") from None
    return text


def _domain(row: Mapping[str, Any], default: str | None) -> str:
    domain = row.get("domain")
    if domain is None:
        return default or "default"
    if not isinstance(domain, str) or not domain.strip():
        raise RowError(f"domain must be a name, not {domain!r}")
    return domain


def _judged(row: Mapping[str, Any]) -> tuple[Verdict, float]:
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


def _weight(row: Mapping[str, Any]) -> float:
    weight = _number(row, "weight")
    if weight is not None and not 0 <= weight < float("inf"):
        raise RowError(f"weight must be 0 or above, not {weight!r}")
    return 1.0 if weight is None else weight


def _confidence(row: Mapping[str, Any]) -> float:
    confidence = _share(row, "confidence")
    return 1.0 if confidence is None else confidence


def _share(row: Mapping[str, Any], key: str) -> float | None:
    value = _number(row, key)
    if value is not None and not 0 <= value <= 1:
        raise RowError(f"{key} must be from 0 to 1, not {value!r}")
    return value


def _number(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise RowError(f"{key} must be a finite number, not {value!r}")
    return float(value)
