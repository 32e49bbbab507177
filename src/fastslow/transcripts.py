"""Parses conversations written as one text, with speakers' names or a chat template's headers."""

import re
from collections.abc import Sequence

from fastslow.records import Message, Text

_NAMES = {"human": "user", "user": "user", "assistant": "assistant", "system": "system"}
_SPEAKER = re.compile(
    rf"(?:\A|\n)\s*(?:### ?)?(?P<name>{'|'.join(_NAMES)}): ?", flags=re.IGNORECASE
)
_HEADER = re.compile(
    r"<\|im_start\|>assistant\n"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>\n\n"
    r"|<start_of_turn>model\n"
    r"|<\|start_of_role\|>assistant<\|end_of_role\|>"
    r"|<\|START_OF_TURN_TOKEN\|><\|CHATBOT_TOKEN\|>"
    r"|<\|assistant\|>\n?"
    r"|\[/INST\]"
    r"|### (?:Response|Assistant):\n?"
)
"""Headers that common chat templates write before an answer."""


def conversation(
    prompt: Text, responses: Sequence[Text]
) -> tuple[tuple[Message, ...], list[tuple[Message, ...]]]:
    """The turns of a prompt and of each response, which may be transcripts written as one text.

    >>> turns, _ = conversation("Human: Hi\\n\\nAssistant:", [])
    >>> [(turn.role, turn.content) for turn in turns]
    [('user', 'Hi')]
    """
    if not isinstance(prompt, str):
        return prompt, [_answer(response, transcript=False) for response in responses]
    turns = _prompt_turns(prompt)
    answers = [_answer(response, transcript=turns is not None) for response in responses]
    return turns or (Message("user", prompt),), answers


def assistant_spans(prompt: str, text: str) -> list[tuple[int, int]]:
    """The spans of characters that the assistant says in a transcript after its prompt.

    Empty for other texts, and if nobody else speaks after the prompt.
    """
    if _prompt_turns(prompt) is None:
        return []
    turns = [turn for turn in _speeches(text) if turn[2] > len(prompt)]
    if len(turns) < 2:
        return []
    return [(begin, end) for role, begin, end in turns if role == "assistant"]


def shared_prompt(first: str, second: str) -> int:
    """Length of the prompt that two texts share, up to where the assistant begins to speak.

    0 if the texts are not conversations, or share no whole turn.
    """
    marks = [*_HEADER.finditer(first)]
    if _speeches(first):
        marks += [mark for mark in _SPEAKER.finditer(first) if mark["name"].lower() == "assistant"]
    # A space belongs to the answer, as tokenizers attach it to the word that follows.
    ends = {len(first[: mark.end()].rstrip(" ")) for mark in marks}
    return max((end for end in ends if second.startswith(first[:end])), default=0)


def awaits_answer(text: str) -> bool:
    """Whether a text is a conversation that ends where the assistant should speak."""
    cut = shared_prompt(text, text)
    return cut > 0 and not text[cut:].strip()


def _prompt_turns(text: str) -> tuple[Message, ...] | None:
    """The turns of a transcript that waits for the assistant; None for any other text."""
    turns = _turns(text)
    if len(turns) < 2 or turns[-1].role != "assistant" or turns[-1].content:
        return None
    return tuple(turns[:-1])


def _answer(response: Text, *, transcript: bool) -> tuple[Message, ...]:
    if not isinstance(response, str):
        return response
    return (
        tuple(_turns("Assistant:" + response)) if transcript else (Message("assistant", response),)
    )


def _speeches(text: str) -> list[tuple[str, int, int]]:
    """Role, first character and end of each turn of a transcript that begins with one.

    The end of a turn is where the next speaker's name begins.
    """
    marks = list(_SPEAKER.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        return []
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return [
        (_NAMES[mark["name"].lower()], mark.end(), end)
        for mark, end in zip(marks, ends, strict=True)
    ]


def _turns(text: str) -> list[Message]:
    return [Message(role, text[begin:end].strip()) for role, begin, end in _speeches(text)]
