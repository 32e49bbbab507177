"""Judges: which of the policy's answers is better."""

from typing import Annotated, Any, Literal

from pydantic import Field

from fastslow.config.section import (
    NonNegative,
    Positive,
    PositiveFloat,
    Section,
    ServerUrl,
    UserPath,
    as_list,
)


class WorldJudgeConfig(Section):
    """The true reward of a world."""

    kind: Literal["world"]
    file: UserPath
    """Its `world.json`."""


class RuleJudgeConfig(Section):
    """Your own Python function or class that scores answers. The file is executed."""

    kind: Literal["rule"]
    file: UserPath
    """Python file."""
    function: str = "score"
    """`function(prompt, answer) -> float`, higher is better; or a function of all `answers`, or
    a class (docs/python.md)."""


class ClassifierJudgeConfig(Section):
    """TF-IDF and logistic regression (scikit-learn), fitted on labelled texts when the run starts.
    An answer's score is its log-odds of being positive."""

    kind: Literal["classifier"]
    data: UserPath | list[UserPath]
    """Rows with `text` and `label`, in the forms `data.train` takes."""
    positive: Any = 1
    """The label of good texts."""

    @property
    def sources(self) -> list[str]:
        return as_list(self.data)


class RewardModelJudgeConfig(Section):
    """A model that scores answers: a finished run of `fastslow train-reward`, a PEFT folder of a
    sequence classifier, or any sequence classifier with one label, or with two of which the second
    is the good one."""

    kind: Literal["reward_model"]
    folder: UserPath
    """Folder or hub id."""
    template: Literal["chat", "plain"] = "chat"
    """How prompt and answer are joined; ignored for a fastslow run, which stores its own."""
    max_length: Annotated[int, Field(ge=2)] = 1024
    """Longest prompt plus answer, in tokens; ignored for a fastslow run, which stores its own."""
    batch_size: Positive = 32
    """Answers scored per forward pass."""


class LlmJudgeConfig(Section):
    """A language model behind an OpenAI-compatible API (vLLM and others), asked in both orders."""

    kind: Literal["llm"]
    url: ServerUrl
    """Base URL, as `http://127.0.0.1:8000/v1`."""
    model: str
    """The model's name there."""
    criterion: str = "the answer that helps the person most, truthfully and to the point"
    """What makes an answer better."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the API key. The key itself is never stored."""
    timeout_s: PositiveFloat = 60.0
    """Timeout for one reply."""
    retries: NonNegative = 6
    """Retries after a failure, with exponential backoff."""
    max_concurrency: Positive = 8
    """Requests in flight at a time."""


class EnsembleJudgeConfig(Section):
    """The mean of several judges' win rates."""

    kind: Literal["ensemble"]
    members: Annotated[list["JudgeConfig"], Field(min_length=2)]
    """The judges, each with its own `kind`."""


JudgeConfig = Annotated[
    WorldJudgeConfig
    | RuleJudgeConfig
    | ClassifierJudgeConfig
    | RewardModelJudgeConfig
    | LlmJudgeConfig
    | EnsembleJudgeConfig,
    Field(discriminator="kind"),
]
EnsembleJudgeConfig.model_rebuild()
