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
from typing import Any

from fastslow.records import (
    Demonstration,
    Example,
    Message,
    Pair,
    Prompt,
    Ranking,
    Rating,
    Text,
)
from fastslow.streams.columns import (
    RowError,
    check_answer,
    check_prompt,
    domain_of,
    number_of,
    read_text,
    share_of,
    truncated_of,
    values_of,
    verdict_of,
    weight_of,
)

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
        check_prompt(prompt)
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
        "domain": domain_of(row, domain),
        "weight": weight_of(row),
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
    check_prompt(prompt)
    check_answer("chosen", chosen)
    check_answer("rejected", rejected)
    verdict, confidence = verdict_of(row)
    if chosen == rejected and verdict == "chosen":
        raise RowError("chosen and rejected are identical")
    scores = number_of(row, "score_chosen"), number_of(row, "score_rejected")
    rates = share_of(row, "win_rate_chosen"), share_of(row, "win_rate_rejected")
    truncated = truncated_of(row, 2)
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
    check_prompt(prompt)
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
        check_answer(f"completions[{i}]", answer)
    values = values_of(row, len(answers))
    best_first = sorted(range(len(answers)), key=lambda i: -values[i])
    distinct = sorted(set(values), reverse=True)
    scored = row.get("scores") is not None
    truncated = truncated_of(row, len(answers))
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
    check_prompt(prompt)
    check_answer("the answer", response)
    label, truncated = row.get("label"), truncated_of(row, 1)
    if label is None:
        return Demonstration(prompt, response, truncated=truncated, **common)
    if not isinstance(label, bool):
        raise RowError(f"label must be true or false, not {label!r}")
    return Rating(prompt, response, label, truncated=truncated, **common)


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


def odd_columns(examples: Iterable[Example]) -> list[str]:
    """Warnings of columns that mean nothing here but are named nearly as one that does."""
    names = dict.fromkeys(key for example in examples for key in example.provenance)
    found = {name: get_close_matches(name, _OPTIONAL, n=1, cutoff=0.8) for name in names}
    return [
        f"the column {name!r} is not used; did you mean {close[0]!r}?"
        for name, close in found.items()
        if close
    ]
