"""The prompt of a row and its responses, apart: whatever of it the responses repeat."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastslow.records import Example, Message, Prompt, Text, plain_text
from fastslow.streams.columns import RowError, read_text, shown
from fastslow.streams.shapes import advice, history_turns, prompt_like
from fastslow.transcripts import awaits_answer, conversation, shared_prompt

Turns = tuple[Message, ...]
FEW_REPEAT = 0.05
"""Share of examples whose answers may begin with the prompt: an answer to "Hi" may say it."""


def prompt_of(row: Mapping[str, Any]) -> Text | None:
    """The prompt, with the columns `system` and `history` before it; None where there is none."""
    return None if row.get("prompt") is None else answered(row, [])[0]


def answered(row: Mapping[str, Any], responses: Sequence[Text]) -> tuple[Text, list[Text]]:
    """The prompt of a row that has one, behind the columns before it, and the responses without
    it."""
    prompt = read_text(row["prompt"], "prompt")
    prompt, responses = behind_columns(row, prompt, _without_text(prompt, responses))
    return prompt, [_without_turns(prompt, response) for response in responses]


def behind_columns(
    row: Mapping[str, Any], prompt: Text, responses: Sequence[Text]
) -> tuple[Text, list[Text]]:
    """The prompt with the columns `system` and `history` before it, and its responses."""
    before = _before(row)
    if not before:
        return prompt, list(responses)
    if isinstance(prompt, str) and awaits_answer(prompt):
        prompt, responses = conversation(prompt, responses)
    return _behind(before, _turns(prompt)), list(responses)


def _before(row: Mapping[str, Any]) -> Turns:
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
    texts = [response for response in responses if isinstance(response, str)]
    if row.get("prompt") is not None:
        prompt, responses = answered(row, responses)
        if texts:
            return prompt, responses
        shared, answers = _split_turns([_turns(response) for response in responses])
        return _with_shared(prompt, shared, names), list(answers)
    if prompt_like(row):
        raise RowError("no prompt" + advice(row, ["prompt"]))
    if texts and len(texts) < len(responses):
        raise RowError(f"{' and '.join(names)} must both be text or both be messages")
    if texts:
        return behind_columns(row, *_split_texts(texts, names))
    shared, answers = _split_turns([_turns(response) for response in responses])
    if not shared:
        raise RowError(f"no prompt, and {' and '.join(names)} have no common beginning")
    return behind_columns(row, shared, answers)


def _split_texts(texts: Sequence[str], names: Sequence[str]) -> tuple[Text, list[Text]]:
    first, second = texts
    cut = shared_prompt(first, second)
    if not cut:
        raise RowError(
            f"no prompt, and {' and '.join(names)} are no transcripts that share one; add a column "
            "prompt, or name the one that is it, as in data.columns: {prompt: question}"
        )
    return first[:cut], [first[cut:], second[cut:]]


def _split_turns(answers: Sequence[Turns]) -> tuple[Turns, list[Turns]]:
    """What all share, as far as a prompt can go, and the rest of each."""
    cut = 0
    for turns in zip(*answers, strict=False):
        if any(turn != turns[0] for turn in turns[1:]):
            break
        cut += 1
    while cut and answers[0][cut - 1].role == "assistant":
        cut -= 1
    return answers[0][:cut], [answer[cut:] for answer in answers]


def _with_shared(prompt: Text, shared: Turns, names: Sequence[str]) -> Text:
    """The prompt with the turns after it that all responses share."""
    turns = _turns(prompt)
    _, rest = _system_apart(shared)
    asked_twice = turns and rest and rest[0].role == turns[-1].role == "user"
    if asked_twice and not _overlap(turns, rest):
        raise RowError(f"{' and '.join(names)} begin with a user turn that is not the prompt's")
    whole = _behind(turns, shared)
    return prompt if whole == turns else whole


def _behind(before: Turns, turns: Turns) -> Turns:
    """Turns behind others, which they may repeat: all, or the last of them. A system turn of either
    is the first."""
    system, before = _system_apart(before)
    own, turns = _system_apart(turns)
    if system and own and system != own:
        raise RowError("the column system and the system turn of the prompt or responses differ")
    return (*(system or own), *before, *turns[_overlap(before, turns) :])


def _system_apart(turns: Turns) -> tuple[Turns, Turns]:
    first = 1 if turns and turns[0].role == "system" else 0
    return turns[:first], turns[first:]


def _overlap(before: Turns, turns: Turns) -> int:
    """How many of the last turns before are the first ones again."""
    sizes = range(min(len(before), len(turns)), 0, -1)
    return next((size for size in sizes if before[-size:] == turns[:size]), 0)


def _turns(text: Text) -> Turns:
    return conversation(text, [])[0]


def _without_text(prompt: Text, responses: Sequence[Text]) -> Sequence[Text]:
    """Responses less a transcript that all of them that are text repeat. Other prompts may be
    repeated on purpose, as code that is to be completed."""
    texts = [response for response in responses if isinstance(response, str)]
    if not isinstance(prompt, str) or not awaits_answer(prompt):
        return responses
    if not all(text.startswith(prompt) for text in texts):
        return responses
    return [
        response.removeprefix(prompt) if isinstance(response, str) else response
        for response in responses
    ]


def _without_turns(prompt: Text, response: Text) -> Text:
    """A conversation that repeats its prompt, or the end of it, less what it repeats."""
    if isinstance(response, str):
        return response
    turns = _turns(prompt)
    whole = _behind(turns, response)
    return whole[len(turns) :] if whole[: len(turns)] == turns else response


def repeated_prompts(examples: Sequence[Example | Prompt]) -> list[str]:
    """A warning where the answers of many examples begin with their prompt."""
    count = sum(_repeats(example) for example in examples)
    if count <= FEW_REPEAT * len(examples):
        return []
    return [
        f"answers of {count} of {len(examples)} examples begin with the whole prompt, which is "
        "learned as part of them; remove it there unless they are meant to repeat it"
    ]


def _repeats(example: Example | Prompt) -> bool:
    if isinstance(example, Prompt):
        return False
    asked = plain_text(example.prompt).strip()
    said = [text if isinstance(text, str) else text[0].content for text in example.responses]
    return bool(asked) and all(text.lstrip().startswith(asked) for text in said)
