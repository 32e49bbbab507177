"""Optimising an instruction for a chat model that is only asked."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from fastslow.config.sampling import EngineConfig
from fastslow.config.section import (
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    UserPath,
    as_list,
)
from fastslow.errors import StateError

KIND = "prompts"
"""Of the summary of such a run."""
PLACES = ("{instruction}", "{input}")


def check_policy(summary: Path, kind: Any) -> None:
    """Raise StateError where a summary of this kind is that of an instruction, not of a policy."""
    if kind == KIND:
        raise StateError(
            f"{summary.parent} holds an instruction that `fastslow prompts` found, and no policy; "
            "give the folder of a run that trained"
        )


def _with_places(template: str) -> str:
    if missing := [place for place in PLACES if template.count(place) != 1]:
        message = "must hold {missing} once"
        raise PydanticCustomError("template", message, {"missing": " and ".join(missing)})
    return template


class ZopoConfig(Section):
    """How ZOPO moves through the pool; the defaults are those of the paper's script."""

    learning_rate: PositiveFloat = 0.01
    """Adam's step up the surrogate's mean, in each of the d coordinates of the embeddings. Far
    below the median distance of two candidates over sqrt(d), the nearest candidate is evaluated
    next, whichever way the gradient points."""
    tolerance: NonNegative = 2
    """Queries in a row without a new best, after more of which it returns to the best candidate."""
    uncertainty: PositiveFloat = 0.01
    """Variance of the surrogate above which it is not trusted: below, a second step is taken before
    anything is evaluated."""
    patience: Positive = 5
    """Steps in a row above it, after which the neighbourhood is evaluated."""
    fitted: Annotated[int, Field(ge=2)] = 20
    """Evaluated candidates, the nearest ones, that the surrogate is fitted on."""
    neighbors: Positive = 10
    """Candidates in a neighbourhood."""
    noise: PositiveFloat = 1e-4
    """Variance of a score, for the surrogate."""


class PromptsConfig(Section):
    """An instruction for a chat model that is only asked, for `fastslow prompts` (ZOPO, arXiv
    2403.02993). `model` answers; with `engine` a server does, and `model` only embeds the
    candidates."""

    validation: UserPath | list[UserPath]
    """Rows with `prompt` and `completion`, in files as of data.train: an instruction's score is the
    mean over them. Of a pair the chosen answer is the right one."""
    test: UserPath | list[UserPath] | None = None
    """Further rows, on which the best instruction of each method is tested; null tests none."""
    max_validation: Positive = 20
    """Take the first so many rows of `validation`."""
    max_test: Positive = 100
    """Take the first so many rows of `test`."""
    candidates: UserPath | None = None
    """The instructions to choose from: a text file with one a line, or a .jsonl file with
    `instruction` and, from an embedder of your own, `embedding`. null has the model write them."""
    demonstrations: UserPath | list[UserPath] | None = None
    """Rows that the model is shown to write instructions; they should not be in `validation`."""
    shown: Positive = 5
    """Rows that it is shown for one instruction, drawn at random."""
    pool: Annotated[int, Field(ge=2)] = 500
    """Instructions that it writes, of different words."""
    max_instruction_tokens: Positive = 64
    """Longest instruction that it writes, in tokens; of a longer one whole sentences are taken."""
    template: Annotated[str, AfterValidator(_with_places)] = "{instruction}\n\n{input}"
    """How an instruction and a row's prompt are joined."""
    metric: Literal["exact_match", "contains", "f1", "judge"] = "exact_match"
    """Score of an answer, 0 to 1: it equals the right one, contains it, shares words with it (F1),
    all three without regard to case and punctuation; or the probability with which the recipe's
    `judge` prefers it to the right one."""
    max_new_tokens: Positive = 64
    """Longest answer, in tokens."""
    temperature: NonNegativeFloat = 0.0
    """Of the answers; 0 takes the likeliest token."""
    engine: EngineConfig | None = None
    """null answers in this process."""
    methods: Annotated[
        list[Literal["zopo", "random", "initial", "resample"]], Field(min_length=1)
    ] = ["zopo"]
    """What is run, on the same pool: ZOPO; random search; the best of the first random candidates;
    resampling near the best ones, in the manner of APE. A candidate is asked once for all."""
    budget: Positive = 165
    """Most candidates that a method evaluates."""
    initial: Positive = 40
    """Random candidates that every method begins with, the same ones."""
    target: Annotated[float, Field(gt=0, le=1)] = 1.0
    """A method ends when a candidate reaches this score."""
    zopo: ZopoConfig = ZopoConfig()

    @property
    def validation_sources(self) -> list[str]:
        return as_list(self.validation)

    @property
    def test_sources(self) -> list[str]:
        return as_list(self.test)

    @property
    def demonstration_sources(self) -> list[str]:
        return as_list(self.demonstrations)
