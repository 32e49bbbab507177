"""Rows in TRL's formats, and in those of other tools, to examples.

Accepted, as plain text or as lists of {role, content} messages:

    prompt, chosen, rejected               a pair
    chosen, rejected                       the prompt is the turns they share
    prompt, completions, scores | ranks    a ranked list (higher score, lower rank is better)
    prompt, completion, label              a response with binary feedback (true, false, 1, 0)
    prompt, completion                     a demonstration
    messages                               a demonstration: the last turn answers the others

each with optional `domain`, `weight` and `truncated` (for each response in the order above, whether
it was cut by a length limit: it is then trained without an end-of-turn token), with `system` and
`history` before the prompt, and with `tools` and `chat_template_kwargs` for the chat template;
pairs also with `verdict` (`chosen`, `tie`, `both_bad`), `score_chosen`, `score_rejected`,
`win_rate_chosen`, `win_rate_rejected` and `confidence`, or with `verdicts`, a list of the verdicts
of several annotators, or of one who saw both orders.
Other columns are kept as provenance. `shapes.py` has what other tools call these columns.
Raises RowError with the reason where a row cannot be used.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from fastslow.records import (
    Demonstration,
    Example,
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
    label_of,
    number_of,
    plain,
    read_text,
    share_of,
    shown,
    truncated_of,
    values_of,
    verdict_of,
    weight_of,
)
from fastslow.streams.prompted import answered, apart, behind_columns, prompt_of, repeated_prompts
from fastslow.streams.shapes import advice, canonical, column_names, renamed, template_kwargs

COLUMNS = {
    "prompt", "chosen", "rejected", "completions", "scores", "ranks", "completion", "label",
    "messages", "verdict", "verdicts", "domain", "weight", "confidence", "score_chosen",
    "score_rejected", "win_rate_chosen", "win_rate_rejected", "truncated", "unended", "system",
    "history", "tools", "chat_template_kwargs",
}  # fmt: skip
"""Columns that mean something here."""
_PROVENANCE = {
    "id", "source", "labeler", "probability", "sampled", "voter", "answers", "seq", "held_out",
}  # fmt: skip
"""Columns that say where a row comes from; the last ones are of votes."""
_OPTIONAL = sorted(
    COLUMNS - {"prompt", "chosen", "rejected", "completions", "completion", "messages"}
)
_OF_PROMPTS = {"prompt", "system", "history", "tools", "chat_template_kwargs"}
NO_COLUMNS: Mapping[str, str] = MappingProxyType({})
"""Columns have their own names."""
MOST_NAMED = 12
"""Unused columns that a warning names."""
_OF_PAIRS = ("score_chosen", "score_rejected", "win_rate_chosen", "win_rate_rejected")
_JUDGEMENTS = ("verdict", "verdicts", "confidence")


def read_row(
    row: Mapping[str, Any],
    *,
    source: str,
    domain: str | None = None,
    columns: Mapping[str, str] = NO_COLUMNS,
) -> Example:
    """The example in a row, whose columns may have other names, by what they mean."""
    given = canonical(renamed(row, columns) if columns else row)
    common = _origin(given, source, domain)
    paired = given.get("chosen") is not None and given.get("rejected") is not None
    if given.get("label") is not None and (paired or given.get("completions") is not None):
        # A 0 may mean that the answers are the other way round, so it is named as not used.
        common["provenance"]["label"] = plain(given["label"])
    if paired:
        return _pair(given, common)
    of_others = any(given.get(key) is not None for key in ("completions", "completion", "messages"))
    stray = [key for key in (*_JUDGEMENTS, *_OF_PAIRS) if given.get(key) is not None]
    if of_others and stray:
        raise RowError(f"{', '.join(stray)}: for rows with chosen and rejected only")
    if given.get("completions") is not None:
        return _ranking(given, common)
    if given.get("completion") is not None or given.get("messages") is not None:
        return _single(given, common)
    missing = [key for key in ("chosen", "rejected") if given.get(key) is None]
    hint = advice(given, [*missing, "completion", "completions"])
    raise RowError(f"no {' and no '.join(missing)} (columns: {column_names(row)}){hint}")


def read_prompt(
    row: Mapping[str, Any],
    *,
    source: str,
    domain: str | None = None,
    columns: Mapping[str, str] = NO_COLUMNS,
) -> Prompt:
    """The prompt of a row, explicit or the turns that its responses share; columns as of
    `read_row`, of which what says nothing of a prompt may be missing."""
    needed = {key: name for key, name in columns.items() if key in _OF_PROMPTS or name in row}
    given = canonical(renamed(row, needed) if needed else row)
    prompt = prompt_of(given)
    if prompt is None:
        prompt = read_row(given, source=source).prompt
    check_prompt(prompt)
    return Prompt(prompt, **_origin(given, source, domain))


def row_of(example: Example | Prompt) -> dict[str, Any]:
    """An example, or a prompt alone, as a JSON row; its source becomes provenance."""
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
    elif not isinstance(example, Prompt):
        row["completion"] = json_text(example.response)
        if isinstance(example, Rating):
            row["label"] = example.desirable
    row |= {"domain": example.domain, "source": example.source}
    if any(example.truncated):
        row["truncated"] = list(example.truncated)
    rest = dict(example.template_kwargs)
    row |= {"tools": rest.pop("tools")} if "tools" in rest else {}
    row |= {"chat_template_kwargs": rest} if rest else {}
    return row if example.weight == 1.0 else row | {"weight": example.weight}


def _origin(row: Mapping[str, Any], source: str, domain: str | None) -> dict[str, Any]:
    """What is known of every row, whatever its label."""
    return {
        "domain": domain_of(row, domain),
        "weight": weight_of(row),
        "source": source,
        "template_kwargs": template_kwargs(row),
        "provenance": {
            str(plain(str(key))): plain(value) for key, value in row.items() if key not in COLUMNS
        },
    }


def json_text(text: Text) -> Any:
    """The text, or its turns, as a row holds them."""
    if isinstance(text, str):
        return text
    return [{"role": turn.role, "content": turn.content, **turn.extra} for turn in text]


def _pair(row: Mapping[str, Any], common: dict[str, Any]) -> Pair:
    prompt, (chosen, rejected) = apart(row, ("chosen", "rejected"))
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
        raise RowError("completions without a prompt" + advice(row, ["prompt"]))
    completions = row["completions"]
    if not isinstance(completions, Sequence) or isinstance(completions, str):
        raise RowError("completions must be a list")
    if len(completions) < 2:
        raise RowError(f"completions needs at least 2 responses, not {len(completions)}")
    given = [read_text(answer, f"completions[{i}]") for i, answer in enumerate(completions)]
    prompt, answers = answered(row, given)
    check_prompt(prompt)
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
            raise RowError("completion without a prompt" + advice(row, ["prompt"]))
        prompt, (response,) = answered(row, [read_text(row["completion"], "completion")])
    else:
        turns = read_text(row["messages"], "messages")
        if isinstance(turns, str):
            raise RowError("messages must be a list of messages")
        if not turns or turns[-1].role != "assistant":
            raise RowError(
                "messages must end with the assistant's turn, which is the training target"
            )
        prompt, (response,) = behind_columns(row, turns[:-1], [turns[-1:]])
    check_prompt(prompt)
    check_answer("the answer", response)
    label, truncated = label_of(row), truncated_of(row, 1)
    if label is None:
        return Demonstration(prompt, response, truncated=truncated, **common)
    return Rating(prompt, response, label, truncated=truncated, **common)


def example_warnings(examples: Sequence[Example | Prompt]) -> list[str]:
    """What looks odd about examples: columns that are not used, answers that hold the prompt."""
    return [*unused_columns(examples), *repeated_prompts(examples)]


def unused_columns(examples: Iterable[Example | Prompt]) -> list[str]:
    """A warning of the columns that are not used, and of those named nearly as one that is."""
    names = dict.fromkeys(key for example in examples for key in example.provenance)
    unused = [name for name in names if name not in _PROVENANCE]
    if not unused:
        return []
    known = [name for name in _OPTIONAL if name not in unused]
    close = {name: get_close_matches(name, known, n=1, cutoff=0.85) for name in unused}
    named = [
        shown(name) + (f" (did you mean {like[0]!r}?)" if like else "")
        for name, like in close.items()
    ]
    return [f"columns that are not used: {', '.join(named[:MOST_NAMED])}{_more(named)}"]


def _more(named: Sequence[str]) -> str:
    left = len(named) - MOST_NAMED
    return f" and {left} more" if left > 0 else ""
