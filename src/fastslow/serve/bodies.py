"""Request bodies. Unknown fields are refused, so that a misspelt one is noticed."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fastslow.feedback.items import UNSTORABLE
from fastslow.feedback.voting import LONGEST_TEXT

DEFAULT_DOMAIN = "default"
LARGEST = 2**31 - 1
"""Largest id in a store."""


def _storable(text: str) -> str:
    """Text that every store and every reply can hold."""
    if UNSTORABLE.search(text):
        raise ValueError("a text must not contain a NUL character or half a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Long = Annotated[Text, Field(max_length=LONGEST_TEXT)]
Short = Annotated[Text, Field(min_length=1, max_length=200)]
Number = Annotated[int, Field(ge=0, le=LARGEST)]
"""Id of something in the store."""
Tokens = Annotated[int, Field(ge=1, le=LARGEST)]
"""Longest answer, in tokens; shorter where the prompt leaves less room."""


class Body(BaseModel):
    """Base class of all request bodies."""

    model_config = ConfigDict(extra="forbid")


class Turn(Body):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Long


class PromptBody(Body):
    """A prompt, as text or as the turns of a conversation."""

    prompt: Long | None = None
    messages: list[Turn] | None = None
    domain: Short | None = None
    """None: assigned by the router where the model answers, else the default domain."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "PromptBody":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self

    def conversation(self) -> list[dict[str, Any]]:
        """The messages, as dicts."""
        if self.messages is None:
            return [{"role": "user", "content": self.prompt}]
        return [turn.model_dump() for turn in self.messages]


class GivenAnswer(Body):
    """An answer from elsewhere."""

    text: Long
    model: Annotated[Text, Field(max_length=400)] | None = None
    finish: Literal["stop", "length"] = "stop"


class NewPair(PromptBody):
    """Two answers to compare; without `answers` the engine samples them."""

    answers: Annotated[list[GivenAnswer], Field(min_length=2, max_length=2)] | None = None
    needs: Annotated[int, Field(ge=1, le=100)] = 1
    gold_verdict: Literal["a", "b", "tie", "both_bad"] | None = None
    """`a` means that the first answer is right."""


class StreamOptions(Body):
    """What the end of a stream includes."""

    include_usage: bool = False


class Chat(Body):
    """A request for answers, as OpenAI's clients send it; what is not supported is refused."""

    model: Text | None = None
    """None or empty: the model that serves the domain."""
    messages: Annotated[list[Turn], Field(min_length=1)]
    domain: Short | None = None
    """None: assigned by the router."""
    n: Annotated[int, Field(ge=1, le=8)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**62)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    """Newer name of `max_tokens`, which it overrides."""
    stop: Text | Annotated[list[Text], Field(max_length=4)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: bool = False
    user: str | None = None
    metadata: dict[str, Any] | None = None

    def conversation(self) -> list[dict[str, Any]]:
        """The messages, as dicts."""
        return [turn.model_dump() for turn in self.messages]


class Wanted(Body):
    """A request for pairs to compare."""

    count: Annotated[int, Field(ge=1, le=20)] = 1
    domain: Short | None = None


class Vote(Body):
    """A verdict on a pair."""

    pair_id: Number
    verdict: Literal["a", "b", "tie", "both_bad", "skip"]
    reason: Long | None = None
    seen_ms: Annotated[int, Field(ge=0, le=86_400_000)] | None = None


class Rated(Body):
    """A verdict on one answer."""

    answer_id: Number
    verdict: Literal["up", "down"]
    reason: Long | None = None


class Edited(Body):
    """A corrected answer; the original is named by its id, or by its pair and side."""

    answer_id: Number | None = None
    pair_id: Number | None = None
    side: Literal["a", "b"] | None = None
    text: Long

    @model_validator(mode="after")
    def _one_of_both(self) -> "Edited":
        of_pair = self.pair_id is not None and self.side is not None
        if (self.answer_id is None) != of_pair or (self.pair_id is None) != (self.side is None):
            raise ValueError("give either answer_id, or pair_id and side")
        return self


class NewPerson(Body):
    """A person or service to give access."""

    name: Short
    role: Literal["admin", "annotator", "viewer", "service"]


class Enabled(Body):
    """Whether somebody has access."""

    enabled: bool
