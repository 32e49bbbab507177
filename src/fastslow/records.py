"""Immutable records shared by all packages and written to disk. Imports nothing of the package."""

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["chosen", "tie", "both_bad"]


THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Fields in which a turn may hold its reasoning, beside its content."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further fields, JSON, passed to the chat template: `reasoning_content`, `tool_calls`, `name`
    and others."""


Text = str | tuple[Message, ...]
"""Plain text, or the turns of a conversation."""


def plain_text(prompt: Text) -> str:
    """The text itself; for a conversation, the text of its last turn."""
    return prompt if isinstance(prompt, str) else prompt[-1].content


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Fields that all kinds of examples have."""

    domain: str = "default"
    weight: float = 1.0
    """Weight of the example in the loss."""
    source: str = ""
    """Its origin, as `file:row`."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Unused columns of the row, kept unchanged."""
    truncated: tuple[bool, ...] = ()
    """For each response, whether it was truncated; empty if none was."""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the chat template besides the turns, JSON: `tools`, and the row's
    `chat_template_kwargs`."""


@dataclass(frozen=True, slots=True)
class Pair(Origin):
    """Two responses to one prompt and which of them was preferred.

    With `verdict="tie"` neither was preferred and both are good, with `both_bad` both are bad; the
    names `chosen` and `rejected` then have no meaning.

    >>> Pair(prompt="2 + 2 =", chosen=" 4", rejected=" 5", domain="math").verdict
    'chosen'
    """

    prompt: Text
    chosen: Text
    rejected: Text
    verdict: Verdict = "chosen"
    score_chosen: float | None = None
    score_rejected: float | None = None
    win_rate_chosen: float | None = None
    """How often the chosen response wins against others to the prompt, 0 to 1."""
    win_rate_rejected: float | None = None
    confidence: float = 1.0
    """Probability that the label is right."""

    @property
    def responses(self) -> tuple[Text, ...]:
        """Chosen, rejected."""
        return self.chosen, self.rejected

    @property
    def is_tie(self) -> bool:
        """Whether there is no preference."""
        return self.verdict != "chosen"


@dataclass(frozen=True, slots=True)
class Ranking(Origin):
    """Two or more responses to one prompt in order of preference, the best first."""

    prompt: Text
    responses: tuple[Text, ...]
    ranks: tuple[int, ...]
    """0 for the best; equal responses have equal ranks."""
    scores: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rating(Origin):
    """One response to a prompt with binary feedback."""

    prompt: Text
    response: Text
    desirable: bool

    @property
    def responses(self) -> tuple[Text, ...]:
        """The only response."""
        return (self.response,)


@dataclass(frozen=True, slots=True)
class Demonstration(Origin):
    """One response to a prompt to imitate."""

    prompt: Text
    response: Text

    @property
    def responses(self) -> tuple[Text, ...]:
        """The only response."""
        return (self.response,)


@dataclass(frozen=True, slots=True)
class Prompt(Origin):
    """A prompt without a response."""

    prompt: Text


Example = Pair | Ranking | Rating | Demonstration
"""A training example: a prompt, its responses and a label."""


def prompt_key(example: Example | Prompt) -> Hashable:
    """A key that examples with the same prompt and template arguments share."""
    return example.prompt, json.dumps(example.template_kwargs, sort_keys=True)
