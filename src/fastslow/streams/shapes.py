"""Rows as other tools export them, to the columns that are read here.

    instruction, input, history, output        Alpaca and LLaMA-Factory
    question                                   Orca
    input.messages, preferred_output, ...      OpenAI's preference files
    conversations                              ShareGPT
    answers with rank, completions with score  Nectar, UltraFeedback

A row that has the columns already comes out as it is.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from fastslow.streams.columns import RowError, shown

Row = dict[str, Any]

MEDIA = ("images", "image", "videos", "video", "audios", "audio")
PROMPTS = ("instruction", "question")
"""Other names of the prompt, where there is no column of that name."""
RESPONSES = ("response", "output")
"""Other names of a single completion."""
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("query", "input", "context", "post", "text", "problem"),
    "chosen": ("accepted", "preferred", "winner", "better", "positive", "win"),
    "rejected": ("dispreferred", "loser", "worse", "negative", "lose"),
    "completion": ("answer", "target", "reply"),
    "completions": ("responses", "candidates", "outputs"),
}
"""What may be meant by a column, which is asked for and not guessed."""


def canonical(row: Mapping[str, Any]) -> Row:
    """The row under the names that are read here. Raises RowError where it holds more than text."""
    given = dict(row)
    if media := [name for name in MEDIA if given.get(name)]:
        raise RowError(f"it has {', '.join(media)}, which models of text cannot see")
    for shape in _SHAPES:
        given = shape(given)
    return given


def renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> Mapping[str, Any]:
    """The row with columns under their meanings, as a recipe's data.columns names them.

    Where a row has the meaning as a column it stays. A row with meanings alone, as a run's own
    answers are, needs none of the names. Raises RowError where it has neither.
    """
    asked = {meaning: name for meaning, name in columns.items() if meaning not in row}
    if len(asked) < len(columns) and not any(name in row for name in asked.values()):
        return row
    missing = [name for name in asked.values() if name not in row]
    if missing:
        raise RowError(
            f"no column {', '.join(map(repr, missing))}, which data.columns names (columns: "
            f"{column_names(row)})"
        )
    taken = set(asked.values())
    rest = {name: value for name, value in row.items() if name not in taken}
    return rest | {meaning: row[name] for meaning, name in asked.items()}


def _openai(row: Row) -> Row:
    asked = row.get("input")
    if not isinstance(asked, Mapping) or "messages" not in asked:
        return row
    rest = {key: value for key, value in row.items() if key != "input"}
    for name, theirs in (("chosen", "preferred_output"), ("rejected", "non_preferred_output")):
        if theirs in rest:
            rest[name] = rest.pop(theirs)
    tools = {"tools": asked["tools"]} if asked.get("tools") else {}
    return {"prompt": asked["messages"], **tools, **rest}


def _sharegpt(row: Row) -> Row:
    if row.get("conversations") is None or row.get("prompt") is not None:
        return row
    rest = {key: value for key, value in row.items() if key != "conversations"}
    preferred = rest.get("chosen") is not None or rest.get("completion") is not None
    return {"prompt" if preferred else "messages": row["conversations"], **rest}


def _alpaca(row: Row) -> Row:
    """An instruction, with its input below it, is the prompt."""
    name = next((name for name in PROMPTS if row.get(name) is not None), None)
    if name is None or row.get("prompt") is not None or row.get("messages") is not None:
        return row
    prompt = row[name]
    if name == "instruction" and isinstance(prompt, str) and (more := row.get("input")):
        if not isinstance(more, str):
            raise RowError(f"input must be text, not {shown(more)}")
        prompt = f"{prompt}\n{more}"
    used = {name, "prompt"} | ({"input"} if name == "instruction" else set())
    return {"prompt": prompt} | {key: value for key, value in row.items() if key not in used}


def _response(row: Row) -> Row:
    """A single response under another name."""
    labelled = ("chosen", "rejected", "completion", "completions", "answers", "messages")
    name = next((name for name in RESPONSES if row.get(name) is not None), None)
    if name is None or row.get("prompt") is None or any(row.get(key) for key in labelled):
        return row
    return {("completion" if key == name else key): value for key, value in row.items()}


def _scored_list(row: Row) -> Row:
    """Responses as objects that hold a text and how good it is."""
    name = next((key for key in ("completions", "answers") if _objects(row.get(key))), None)
    if name is None:
        return row
    texts = _column(row[name], ("response", "answer", "text", "content"))
    if texts is None:
        return row
    rest = {key: value for key, value in row.items() if key != name}
    for key, theirs in (("scores", ("score", "overall_score", "rating")), ("ranks", ("rank",))):
        if rest.get(key) is None and (values := _column(row[name], theirs)) is not None:
            rest[key] = values
    return {**rest, "completions": texts}


def _objects(value: Any) -> bool:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return listed and bool(value) and all(isinstance(one, Mapping) for one in value)


def _column(objects: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Any] | None:
    """The first of the names that all objects have, as a list."""
    name = next((name for name in names if all(name in one for one in objects)), None)
    return None if name is None else [one[name] for one in objects]


_SHAPES: tuple[Callable[[Row], Row], ...] = (_openai, _sharegpt, _alpaca, _response, _scored_list)


def history_turns(value: Any) -> list[dict[str, str]]:
    """Earlier turns in a column `history`: pairs of what was asked and answered, or messages."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RowError(
            f"history must be a list of [question, answer] or of messages, not {shown(value)}"
        )
    turns: list[dict[str, str]] = []
    for item in value:
        if isinstance(item, Mapping):
            turns.append(dict(item))
        elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2:
            turns += [
                {"role": role, "content": text}
                for role, text in zip(("user", "assistant"), item, strict=True)
            ]
        else:
            raise RowError(f"history must hold [question, answer] or messages, not {shown(item)}")
    return turns


def template_kwargs(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the row's chat template is given: `tools`, and its `chat_template_kwargs`."""
    found: dict[str, Any] = {}
    for name, kind in (("chat_template_kwargs", Mapping), ("tools", Sequence)):
        value = row.get(name)
        if isinstance(value, str):  # Some exports hold JSON as text.
            try:
                value = json.loads(value) if value.strip() else None
            except ValueError:
                raise RowError(f"{name} is text that is not JSON: {shown(value)}") from None
        if not value:
            continue
        if not isinstance(value, kind) or isinstance(value, str):
            what = "an object" if kind is Mapping else "a list of JSON schemas"
            raise RowError(f"{name} must be {what}, not {shown(value)}")
        found |= value if name == "chat_template_kwargs" else {name: list(value)}
    return found


def advice(row: Mapping[str, Any], missing: Sequence[str]) -> str:
    """How to name the columns that may be meant by missing ones."""
    found = {name: like for name in missing if (like := _like(row, name)) is not None}
    if not found:
        return ""
    pairs = ", ".join(f"{name}: {like}" for name, like in found.items())
    return f"; rename {'them' if len(found) > 1 else 'it'}, or set data.columns: {{{pairs}}}"


def _like(row: Mapping[str, Any], name: str) -> str | None:
    """The column of the row that may be meant by a name."""
    lowered = {str(key).lower(): str(key) for key in row if key != name and row[key] is not None}
    close = get_close_matches(name, lowered, n=1, cutoff=0.85)
    named = [*close, *(other for other in OTHER_NAMES.get(name, ()) if other in lowered)]
    return lowered[named[0]] if named else None


def prompt_like(row: Mapping[str, Any]) -> str | None:
    """A column of text that may be meant as the prompt, of a row without one."""
    name = _like(row, "prompt")
    return name if name is not None and isinstance(row[name], str | list) else None


def column_names(row: Mapping[str, Any]) -> str:
    """The names of a row's columns, for a message."""
    return shown(", ".join(map(str, row)), quoted=False)
