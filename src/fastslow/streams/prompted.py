"""The prompt of a row and its responses, apart: whatever of it the responses repeat."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastslow.records import Message, Text
from fastslow.streams.columns import RowError, read_text, shown
from fastslow.streams.shapes import advice, history_turns, prompt_like
from fastslow.transcripts import shared_prompt


def prompt_of(row: Mapping[str, Any]) -> Text | None:
    """The prompt, with the columns `system` and `history` before it; None where there is none."""
    if row.get("prompt") is None:
        return None
    prompt = read_text(row["prompt"], "prompt")
    before = _before(row)
    if not before:
        return prompt
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    if turns[:1] == before[:1] and before[0].role == "system":
        before = before[1:]
    if before and before[0].role == "system" and any(turn.role == "system" for turn in turns):
        raise RowError("the column system and the system turn of the prompt differ")
    return (*before, *turns)


def _before(row: Mapping[str, Any]) -> tuple[Message, ...]:
    system = row.get("system")
    if system is not None and not isinstance(system, str):
        raise RowError(f"system must be text, not {shown(system)}")
    turns = (Message("system", system),) if system and system.strip() else ()
    earlier = row.get("history")
    if earlier is None or earlier == []:
        return turns
    return (*turns, *read_text(history_turns(earlier), "history"))


def apart(row: Mapping[str, Any], names: Sequence[str]) -> tuple[Text, list[Text]]:
    """The prompt, and the responses in the columns without it.

    Turns that all responses share belong to the prompt. Text without a prompt is split where a
    transcript, or a chat template's header, lets the assistant speak.
    """
    responses = [read_text(row[name], name) for name in names]
    prompt = prompt_of(row)
    if prompt is None and prompt_like(row):
        raise RowError("no prompt" + advice(row, ["prompt"]))
    texts = [response for response in responses if isinstance(response, str)]
    turns = [response for response in responses if not isinstance(response, str)]
    if prompt is not None and len(turns) < len(responses):
        return prompt, [without_prompt(response, prompt) for response in responses]
    if prompt is None and texts and turns:
        raise RowError(f"{' and '.join(names)} must both be text or both be messages")
    if prompt is None and texts:
        return _split_texts(texts, names)
    before, answers = _split_turns(turns)
    if prompt is None:
        if not before:
            raise RowError(f"no prompt, and {' and '.join(names)} have no common beginning")
        return (*_before(row), *before), list(answers)
    return _joined(prompt, before), list(answers)


def _split_texts(texts: Sequence[str], names: Sequence[str]) -> tuple[Text, list[Text]]:
    first, second = texts
    cut = shared_prompt(first, second)
    if not cut:
        raise RowError(
            f"no prompt, and {' and '.join(names)} are no transcripts that share one; add a column "
            "prompt, or name the one that is it, as in data.columns: {prompt: question}"
        )
    return first[:cut], [first[cut:], second[cut:]]


def _split_turns(
    answers: Sequence[tuple[Message, ...]],
) -> tuple[tuple[Message, ...], list[tuple[Message, ...]]]:
    """What all share, as far as a prompt can go, and the rest of each."""
    cut = 0
    for turns in zip(*answers, strict=False):
        if any(turn != turns[0] for turn in turns[1:]):
            break
        cut += 1
    while cut and answers[0][cut - 1].role == "assistant":
        cut -= 1
    return answers[0][:cut], [answer[cut:] for answer in answers]


def _joined(prompt: Text, shared: tuple[Message, ...]) -> Text:
    """The prompt with the turns after it that all responses share; they may repeat it."""
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    rest = _after(turns, shared)
    if rest is None:
        return (*turns, *shared) if shared else prompt
    before, after = rest
    return (*before, *turns, *after) if before or after else prompt


def _after(
    turns: tuple[Message, ...], shared: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[Message, ...]] | None:
    """What stands before and after the turns in what is shared, if they stand there: at the
    beginning, or after a system turn."""
    for start in (0, 1):
        if shared[start : start + len(turns)] == turns and all(
            turn.role == "system" for turn in shared[:start]
        ):
            return shared[:start], shared[start + len(turns) :]
    return None


def without_prompt(answer: Text, prompt: Text) -> Text:
    """A conversation that repeats its prompt, less the prompt."""
    if isinstance(answer, str):
        return answer
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return answer[len(turns) :] if answer[: len(turns)] == turns else answer
