"""Prompt optimisation for a black-box chat model."""

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
"""Kind in the summary of such a run."""
PLACES = ("{instruction}", "{input}")


def check_policy(summary: Path, kind: Any) -> None:
    """Raise StateError if a summary of this kind is of an instruction, not of a policy."""
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
    """How ZOPO moves through the pool. Defaults are those of the paper's script."""

    learning_rate: PositiveFloat = 0.01
    """Adam's step size in each of the d embedding coordinates, up the surrogate's mean. If it is
    far below the median distance between candidates over sqrt(d), the nearest candidate comes next
    whatever the gradient."""
    tolerance: NonNegative = 2
    """After more than this many queries in a row without a new best, it returns to the best
    candidate."""
    uncertainty: PositiveFloat = 0.01
    """Variance above which the surrogate is not trusted; below it, a second step is taken before
    anything is evaluated."""
    patience: Positive = 5
    """Steps in a row above that variance after which the neighbourhood is evaluated."""
    fitted: Annotated[int, Field(ge=2)] = 20
    """Nearest evaluated candidates that the surrogate is fitted on."""
    neighbors: Positive = 10
    """Candidates in a neighbourhood."""
    noise: PositiveFloat = 1e-4
    """Noise variance of a score in the surrogate."""


class PromptsConfig(Section):
    """Optimise an instruction for a black-box chat model, for `fastslow prompts` (ZOPO, arXiv
    2403.02993). `model` answers; with `engine` a server does, and `model` only embeds the
    candidates."""

    validation: UserPath | list[UserPath]
    """Rows with `prompt` and `completion`, in the forms data.train takes; an instruction's score is
    the mean over them. The right answer of a pair is the chosen one."""
    test: UserPath | list[UserPath] | None = None
    """Other rows, on which the best instruction of each method is tested; null tests none."""
    max_validation: Positive = 20
    """Use the first this many rows of `validation`."""
    max_test: Positive = 100
    """Use the first this many rows of `test`."""
    candidates: UserPath | None = None
    """The instructions to choose from: a text file with one per line, or a .jsonl file with
    `instruction` and optionally `embedding` from your own embedder. null lets the model write
    them."""
    demonstrations: UserPath | list[UserPath] | None = None
    """Rows that the model is shown to write instructions; they should not be in `validation`."""
    shown: Positive = 5
    """Demonstrations shown for each instruction, drawn at random."""
    pool: Annotated[int, Field(ge=2)] = 500
    """Distinct instructions that the model writes."""
    max_instruction_tokens: Positive = 64
    """Longest instruction that the model writes, in tokens; a longer one is cut after a whole
    sentence."""
    template: Annotated[str, AfterValidator(_with_places)] = "{instruction}\n\n{input}"
    """How an instruction and a row's prompt are joined."""
    metric: Literal["exact_match", "contains", "f1", "judge"] = "exact_match"
    """Score of an answer, 0 to 1: it equals the right answer, contains it, or shares words with it
    (F1), all ignoring case and punctuation; or the probability that the recipe's `judge` prefers it
    to the right answer."""
    max_new_tokens: Positive = 64
    """Longest answer, in tokens."""
    temperature: NonNegativeFloat = 0.0
    """Sampling temperature of the answers; 0 is greedy."""
    engine: EngineConfig | None = None
    """null answers in this process."""
    methods: Annotated[
        list[Literal["zopo", "random", "initial", "resample"]], Field(min_length=1)
    ] = ["zopo"]
    """Methods to run, on the same pool: ZOPO; random search; the best of the first random
    candidates; resampling near the best ones, as in APE. A candidate is evaluated once for all
    methods."""
    budget: Positive = 165
    """Candidates that each method may evaluate."""
    initial: Positive = 40
    """Random candidates that every method starts with, the same for all."""
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
