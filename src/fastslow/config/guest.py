"""Recipes in untrusted folders: removes whatever would run code or send requests.

A recipe that the user gives is trusted. The config.yaml of a run or bank that is opened is not: it
may have come with the folder. Without `trust_code`, nothing that would run Python or ask a server
is left in it: no objective or rule in a Python file, no model with its own code, no language model
as the judge. Nothing further down has to know.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from fastslow.config.judging import (
    EnsembleJudgeConfig,
    JudgeConfig,
    LlmJudgeConfig,
    RuleJudgeConfig,
)
from fastslow.config.load import load_recipe
from fastslow.config.recipe import Recipe
from fastslow.config.section import Section
from fastslow.config.sections import ObjectiveConfig

HOW_TO_TRUST = "if you know where the folder is from, give --trust-code (in Python trust_code=True)"


class Withheld(Section):
    """What a folder's recipe names but is not used; empty strings if there is nothing."""

    objective: str = ""
    """Python file of the objective."""
    judge: str = ""
    """What the judge would run or ask."""
    remote_code: bool = False
    """Whether the model would run its own code."""


class GuestRecipe(Recipe):
    """The recipe of a folder that is not trusted. It can be used like any other."""

    withheld: Withheld = Field(default=Withheld(), exclude=True)


def open_recipe(path: Path, overrides: Sequence[str] = (), *, trust_code: bool) -> Recipe:
    """The recipe in a run or bank folder: unchanged if trusted, else as a guest's.

    Raises ConfigError as `load_recipe`.
    """
    recipe = load_recipe(path, overrides)
    return recipe if trust_code else as_guest(recipe)


def as_guest(recipe: Recipe) -> GuestRecipe:
    """The recipe without anything that would run Python or ask a server."""
    settings = recipe.objective.settings
    file = settings.pop("file", "")
    judge = recipe.eval.judge or recipe.judge
    reach = list(judge_reach(judge))
    kept = None if reach else judge
    changes: dict[str, Any] = {
        "withheld": Withheld(
            objective=str(file),
            judge=" and ".join(reach),
            remote_code=recipe.trust_remote_code,
        ),
        "objective": ObjectiveConfig(name=recipe.objective.name, **settings),
        "judge": None,
        "eval": recipe.eval.model_copy(update={"judge": kept}),
        "trust_remote_code": False,
    }
    # Not validated again: a recipe that needs its judge to train is opened without it.
    return GuestRecipe.model_construct(**dict(recipe) | changes)


def judge_reach(judge: JudgeConfig | None) -> Iterator[str]:
    """What a judge does beyond reading files, in words: a Python file that it runs; a server that
    it asks, and the variable whose value it sends there."""
    match judge:
        case RuleJudgeConfig():
            yield f"the Python file {judge.file}"
        case LlmJudgeConfig():
            yield f"the server at {judge.url} with the key in ${judge.api_key_env}"
        case EnsembleJudgeConfig():
            for member in judge.members:
                yield from judge_reach(member)
