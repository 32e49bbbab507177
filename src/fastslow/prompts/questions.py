"""What an instruction is scored on: prompts with the right answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from fastslow.errors import DataError
from fastslow.records import Demonstration, Example, Pair, Text, plain_text
from fastslow.streams import open_sources, read_examples


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and its right answer."""

    prompt: Text
    answer: str
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """What the chat template is given besides the turns."""

    def asked_with(self, instruction: str, template: str) -> Text:
        """The prompt with an instruction; in a conversation, in its last turn."""
        before, middle, after = _around(template)
        parts = {"{instruction}": instruction, "{input}": plain_text(self.prompt)}
        text = before + parts[middle[0]] + middle[1] + parts[middle[2]] + after
        if isinstance(self.prompt, str):
            return text
        return (*self.prompt[:-1], replace(self.prompt[-1], content=text))


def read_questions(
    sources: Sequence[str], columns: Mapping[str, str], *, key: str, most: int | None = None
) -> list[Question]:
    """The questions in files, of `most` the first.

    Args:
        sources: the files.
        columns: what columns are called there, by what they mean.
        key: of the recipe, for errors.
        most: takes the first so many.

    Raises DataError for a row that is no prompt with an answer, or where there is none.
    """
    rows = islice(read_examples(open_sources(list(sources)), columns=columns), most)
    questions = [_question(example, key) for example in rows]
    if not questions:
        raise DataError(f"{key}: there is no row; give rows with prompt and completion")
    return questions


def _question(example: Example, key: str) -> Question:
    match example:
        case Demonstration():
            answer = example.response
        case Pair() if not example.is_tie:
            answer = example.chosen
        case _:
            raise DataError(
                f"{key}: {example.source}: got a {type(example).__name__.lower()} without a right "
                "answer; give prompt and completion, or a pair with a preference"
            )
    return Question(example.prompt, plain_text(answer).strip(), example.template_kwargs)


def _around(template: str) -> tuple[str, tuple[str, str, str], str]:
    """A template cut at its two places, which may stand in either order."""
    first, second = sorted(("{instruction}", "{input}"), key=template.index)
    before, rest = template.split(first)
    between, after = rest.split(second)
    return before, (first, between, second), after
