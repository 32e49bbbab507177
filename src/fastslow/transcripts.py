"""Conversations that are written as one text: speakers' names, or a chat template's headers."""

import re

from fastslow.records import Message

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
"""What common chat templates write before an answer."""


def prompt_turns(text: str) -> tuple[Message, ...] | None:
    """The turns of a transcript that waits for the assistant; None for any other text.

    >>> [turn.role for turn in prompt_turns("Human: Hi\\n\\nAssistant:")]
    ['user']
    """
    turns = _turns(text)
    if len(turns) < 2 or turns[-1].role != "assistant" or turns[-1].content:
        return None
    return tuple(turns[:-1])


def answer_turns(text: str) -> tuple[Message, ...]:
    """The turns of what follows a transcript: the assistant's, and perhaps more."""
    return tuple(_turns("Assistant:" + text))


def speeches(text: str) -> list[tuple[str, int, int]]:
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


def shared_prompt(first: str, second: str) -> int:
    """Length of the prompt that two texts share: up to where the assistant begins to speak.

    0 where the texts are no conversations, or share no whole turn.
    """
    marks = [*_HEADER.finditer(first)]
    if speeches(first):
        marks += [mark for mark in _SPEAKER.finditer(first) if mark["name"].lower() == "assistant"]
    # A space belongs to the answer, as tokenizers attach it to the word that follows.
    ends = {len(first[: mark.end()].rstrip(" ")) for mark in marks}
    return max((end for end in ends if second.startswith(first[:end])), default=0)


def _turns(text: str) -> list[Message]:
    return [Message(role, text[begin:end].strip()) for role, begin, end in speeches(text)]
