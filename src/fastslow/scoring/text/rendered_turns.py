"""Finds each turn of a conversation in the text that a chat template made of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from fastslow.errors import EncodingError
from fastslow.records import THOUGHTS, Message

THOUGHT_BEGIN, THOUGHT_END = "<think>", "</think>"
SHOWN = 40
"""Characters of a missing turn that a message shows."""
ADVICE = "; use another chat template, or set data.template: plain"


@dataclass(frozen=True, slots=True)
class RenderedTurn:
    """Where a turn stands in the text."""

    role: str
    begin: int
    """The first character after what the template writes before the turn."""
    end: int
    """Behind what the template ends the turn with, without the blanks that follow."""
    thought_lost: bool
    """Whether the thought of an earlier turn is missing, as many templates will have it."""


def find_turns(
    text: str, turns: Sequence[Message], *, header: str, end: str, answers_from: int
) -> list[RenderedTurn]:
    """The turns in the text, in order.

    Args:
        text: of the turns, as the template wrote it.
        turns: the conversation.
        header: what the template writes before the assistant's words.
        end: what it writes behind them.
        answers_from: the first of the turns that answers the prompt.

    Raises EncodingError where a turn is missing.
    """
    try:
        return _walk(text, turns, header, end, answers_from)
    except EncodingError:
        # Some templates write another header before earlier turns.
        return _walk(text, turns, "", end, answers_from)


def _walk(
    text: str, turns: Sequence[Message], header: str, end: str, answers_from: int
) -> list[RenderedTurn]:
    found: list[RenderedTurn] = []
    place = 0
    for number, turn in enumerate(turns):
        spoken = None
        if turn.role == "assistant" and header and (at := text.find(header, place)) >= 0:
            place = spoken = at + len(header.rstrip(" "))
        begin, place, lost = _find_words(text, turn, place, may_lose_thought=number < answers_from)
        if text.startswith(end.rstrip(), place):
            place += len(end.rstrip())
        found.append(RenderedTurn(turn.role, begin if spoken is None else spoken, place, lost))
    return found


def _find_words(
    text: str, turn: Message, start: int, *, may_lose_thought: bool
) -> tuple[int, int, bool]:
    """First character of a turn's words, the one behind the last, whether its thought is lost."""
    begin, place, lost = len(text), start, False
    for field, words in _parts(turn):
        hit = _find(text, words, place)
        if hit is not None:
            begin, place = min(begin, hit[0]), hit[1]
        elif field in THOUGHTS and may_lose_thought:
            lost = True
        else:
            raise EncodingError(_missing(field, turn, words))
    return min(begin, place), place, lost


def _parts(turn: Message) -> list[tuple[str, str]]:
    """What must stand in the text, by the field it is in."""
    thoughts = [(name, turn.extra[name]) for name in THOUGHTS if turn.extra.get(name)]
    content = turn.content
    if turn.role == "assistant" and THOUGHT_END in content:
        thought, content = content.rsplit(THOUGHT_END, 1)
        thoughts.append((THOUGHTS[0], thought.replace(THOUGHT_BEGIN, "")))
    calls = [
        ("tool_calls", call.get("function", call).get("name", ""))
        for call in turn.extra.get("tool_calls") or ()
    ]
    parts = [*thoughts, ("content", content), *calls]
    return [(field, words.strip()) for field, words in parts if words.strip()]


def _find(text: str, words: str, place: int) -> tuple[int, int] | None:
    """Where the words stand from a place on, as they are or as a JSON string has them."""
    for form in (words, json.dumps(words, ensure_ascii=False)[1:-1]):
        if (at := text.find(form, place)) >= 0:
            return at, at + len(form)
    return None


def _missing(field: str, turn: Message, words: str) -> str:
    if field in THOUGHTS:
        return (
            "the chat template leaves out the thought of the answer"
            + (f" (its field {field})" if field in turn.extra else "")
            + ADVICE
        )
    shown = words if len(words) <= SHOWN else words[:SHOWN] + "…"
    return f"the chat template does not write {field} of the {turn.role} turn: {shown!r}" + ADVICE
