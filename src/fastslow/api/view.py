"""An opened set of policies on one base, and what is asked of it in a user's terms."""

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastslow.adapters import BASE
from fastslow.api.rows import EXAMPLES, is_frame, placed_rows
from fastslow.api.whole_numbers import not_whole
from fastslow.config import HOW_TO_TRUST, GuestRecipe, LlmJudgeConfig, Recipe, load_recipe
from fastslow.config.section import LARGEST
from fastslow.errors import ConfigError, DataError
from fastslow.judges import Judge, as_judge, make_judge
from fastslow.objectives import Objective
from fastslow.records import Example, Message, Pair, Prompt
from fastslow.scoring import Dropped, Encoded, Encoder
from fastslow.streams import RowError, Unreadable
from fastslow.streams.columns import read_text
from fastslow.streams.formats import NO_COLUMNS, read_prompt, read_row
from fastslow.training.data.dataset import objective_of
from fastslow.training.policies.policies import Policies

LONGEST_ANSWER = 128
"""Tokens of a sampled answer where nothing else is said, or half of max_length if less."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer."""

    text: str
    """Without special tokens."""
    num_tokens: int
    """The end-of-turn token included."""
    truncated: bool
    """Whether `max_new_tokens` cut it off."""


@dataclass(frozen=True, slots=True)
class RowScore:
    """What a policy makes of the responses of one row, in their order: chosen, rejected."""

    logps: tuple[float, ...] = ()
    """Log-prob of each response, summed over its tokens, nats."""
    reference_logps: tuple[float, ...] = ()
    """The same under the reference."""
    num_tokens: tuple[int, ...] = ()
    """Length of each response, tokens, the end-of-turn token included."""
    margin: float | None = None
    """Of a pair: (chosen - rejected) of the policy less the same of the reference, nats. Above 0
    the policy prefers the chosen response more than the reference does. None of other rows."""
    skipped: str | None = None
    """Why the row could not be scored; None where it was."""


@dataclass(frozen=True, slots=True)
class View:
    """An opened set of policies on one base."""

    recipe: Recipe
    tokenizer: Any
    encoder: Encoder
    policies: Policies
    reference: str
    names: Mapping[str, str]
    """What a user may ask for, to the policy that it is."""
    own_objective: Objective | None = None
    """One that was handed over as an object; None takes the recipe's."""
    running: Mapping[str, dict[str, float]] = field(default_factory=dict)
    """What the objective remembers of each module's training."""

    @property
    def objective(self) -> Objective:
        """What the policies learned with. Raises ConfigError as of `objective_of`."""
        return self.own_objective or objective_of(self.recipe)

    def policy(self, asked: str) -> str:
        """The policy that a name means. Raises ConfigError with the names there are."""
        if asked not in self.names:
            raise ConfigError(
                f"module: there is no {asked!r}; this run has {', '.join(self.names)}"
            )
        return self.names[asked]

    def room(self, max_new_tokens: int | None) -> int:
        """Tokens of the longest answer. Raises ConfigError where that is no number above 0."""
        if max_new_tokens is None:
            return min(LONGEST_ANSWER, self.recipe.data.max_length // 2)
        if faults := list(not_whole(1, max_new_tokens=max_new_tokens)):
            raise ConfigError(*faults)
        return max_new_tokens


def names_of(modules: Iterable[str], leader: str, reference: str) -> dict[str, str]:
    """What a user may ask for where these modules are open, to the policy that it is."""
    names = {name: name for name in (*modules, leader)}
    return names | {"leader": leader, "reference": reference, "base": BASE}


def prompt_of(given: Any, columns: Mapping[str, str] = NO_COLUMNS) -> Prompt | Example:
    """What a prompt to answer is given as: text, the turns of a conversation, or a row with what
    its chat template is given, and columns as of `read_prompt`. Raises ConfigError for anything
    else."""
    if isinstance(given, (Prompt, *EXAMPLES)):
        return given
    if isinstance(given, tuple) and all(isinstance(turn, Message) for turn in given):
        return Prompt(given)
    try:
        if isinstance(given, Mapping):
            return read_prompt(given, source="the row", columns=columns)
        return Prompt(read_text(given, "a prompt"))
    except RowError as error:
        raise ConfigError(f"prompts: {error}") from None


def judge_of(judge: Any) -> Judge | None:
    """The judge that an object is or a mapping describes; None stays None."""
    if judge is None:
        return None
    if isinstance(judge, Mapping):
        config = load_recipe({"model": "none", "eval": {"judge": dict(judge)}}).eval.judge
        return None if config is None else make_judge(config)
    return as_judge(judge)


def llm_judge(judge: Any) -> LlmJudgeConfig:
    """The language model that a mapping describes. Raises ConfigError for another kind of judge."""
    config = load_recipe({"model": "none", "eval": {"judge": dict(judge)}}).eval.judge
    if not isinstance(config, LlmJudgeConfig):
        raise ConfigError("judge: must be a language model: {kind: llm, url: ..., model: ...}")
    return config


def checked_prompts(
    view: View, prompts: Any, num_generations: int, temperature: float, top_p: float, seed: int
) -> list[Prompt | Example]:
    """The prompts of a request for answers. Raises ConfigError with all that is wrong with it."""
    if is_frame(prompts) or isinstance(prompts, bytes) or not isinstance(prompts, Iterable):
        raise ConfigError(f"prompts: got a {type(prompts).__name__}; give a list of prompts")
    if isinstance(prompts, (str, Mapping)):
        raise ConfigError("prompts: got a single one; give a list of prompts")
    if view.recipe.task == "reward":
        raise ConfigError("generate: this is a reward model, which does not answer; use score")
    prompts = list(prompts)  # They may come once only.
    faults = list(not_whole(1, num_generations=num_generations))
    if any(isinstance(prompt, str) and not prompt.strip() for prompt in prompts):
        faults.append("a prompt is empty; give some text to answer")
    if not 0 <= temperature < math.inf:
        faults.append(f"temperature: got {temperature}; must be 0 or above, and finite")
    if temperature == 0 and num_generations != 1:
        faults.append("num_generations: at temperature 0 every answer is the same; set it to 1")
    if not 0 < top_p <= 1:
        faults.append(f"top_p: got {top_p}; must be above 0 and at most 1")
    if any(not_whole(0, seed=seed)) or seed > LARGEST:
        faults.append(f"seed: got {seed!r}; must be a whole number from 0 to {LARGEST}")
    if faults:
        raise ConfigError(*faults)
    return [prompt_of(prompt, view.recipe.data.columns) for prompt in prompts]


def encode_rows(view: View, rows: Any) -> list[Encoded | str]:
    """Each row encoded, or why it cannot be. Raises DataError where none can."""
    found: list[Example | str] = []
    columns = view.recipe.data.columns
    for place, row in placed_rows(rows):
        try:
            if isinstance(row, Unreadable):
                raise RowError(row.reason)
            given = isinstance(row, EXAMPLES)
            found.append(row if given else read_row(row, source=place, columns=columns))
        except RowError as error:
            found.append(f"{place}: {error}")
    asked = [item for item in found if not isinstance(item, str)]
    made = iter(view.encoder.encode_all(asked))
    encoded: list[Encoded | str] = []
    for item in found:
        known = item if isinstance(item, str) else next(made)
        encoded.append(
            f"{known.example.source}: {known.reason}" if isinstance(known, Dropped) else known
        )
    if not any(isinstance(item, Encoded) for item in encoded):
        reasons = "".join(f"\n  {item}" for item in encoded[:5])
        raise DataError(f"no row can be scored:{reasons}")
    return encoded


def row_score(item: Encoded, own: list[float], reference: list[float]) -> RowScore:
    """The score of a row whose responses have these log-probs."""
    margin = None
    if isinstance(item.example, Pair):
        margin = (own[0] - own[1]) - (reference[0] - reference[1])
    return RowScore(tuple(own), tuple(reference), tuple(item.tree.num_scored), margin)


def eval_recipe(recipe: Recipe, seed: int | None, settings: Mapping[str, int | None]) -> Recipe:
    """The recipe with other settings of evaluation, checked. Raises ConfigError."""
    given = {key: value for key, value in settings.items() if value is not None}
    if recipe.eval.max_new_tokens >= recipe.data.max_length:  # Of a recipe without data.eval.
        given = {"max_new_tokens": recipe.data.max_length // 2} | given
    data = {"eval": recipe.data.eval, "max_length": recipe.data.max_length}
    checked = load_recipe(
        {
            "model": recipe.model,
            "task": recipe.task,
            "data": data,
            "seed": recipe.seed if seed is None else seed,
            "eval": recipe.eval.model_dump(mode="json") | given,
        }
    )
    return recipe.model_copy(update={"eval": checked.eval, "seed": checked.seed})


def warn_of_unasked_judge(recipe: Recipe) -> None:
    """Say that answers are not judged, where the judge is one that only the folder names."""
    if isinstance(recipe, GuestRecipe) and recipe.withheld.judge and recipe.eval.num_prompts:
        warnings.warn(
            f"the run's judge is not asked, as it is {recipe.withheld.judge}: give the judge "
            f"yourself (--judge, in Python judge=...), or, {HOW_TO_TRUST}",
            stacklevel=3,
        )
