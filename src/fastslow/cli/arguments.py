"""Arguments of several verbs: a recipe and settings, a judge, and whether a folder is trusted."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from fastslow.cli.console import tell

if TYPE_CHECKING:
    from fastslow.config import JudgeConfig, Recipe

METAVAR = "RECIPE | SECTION.KEY=VALUE"
HELP = (
    "A YAML recipe, or the name of one that `fastslow recipes` lists; then settings that replace "
    "the recipe's. Settings alone do too: model=... data.train=..."
)
TrustCode = typer.Option(
    False,
    "--trust-code",
    help="Run the Python that the folder's config.yaml names (objective, judge, the model's own "
    "code), and ask the language model that it names as the judge.",
)
Arguments = typer.Argument(None, metavar=METAVAR, help=HELP)


class RecipeCommand(TyperCommand):
    """A command of settings, which tells who gives one as an option how it is written."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # Its class is click's or typer's own, by version; only that of options has a name.
            from fastslow.config.hints import as_setting

            said = as_setting(str(getattr(error, "option_name", "")))
            if said:
                vars(error)["message"] += f". Settings have no dashes: {said}"
            raise


def recipe_of(arguments: list[str] | None) -> "Recipe":
    """The checked recipe that arguments name. Raises ConfigError with all faults."""
    from fastslow.config import load_recipe
    from fastslow.objectives import objective_problems

    source, settings = source_of(arguments)
    return load_recipe(source, settings, checks=[objective_problems])


def source_of(arguments: list[str] | None) -> tuple["str | dict[str, Any]", list[str]]:
    """The recipe's file or name and the settings that arguments give; empty for settings alone.

    Raises ConfigError without any.
    """
    from fastslow.errors import ConfigError

    if not arguments:
        raise ConfigError(
            "give a recipe (a YAML file, or a name that `fastslow recipes` lists), or settings: "
            "model=... data.train=..."
        )
    first, *settings = arguments
    if "=" in first and not Path(first).is_file():
        return {}, arguments
    return first, settings


def judge_config(text: str) -> "JudgeConfig | None":
    """The judge that an option describes as YAML. Raises ConfigError."""
    from fastslow.config import load_recipe

    return load_recipe({"model": "none"}, [f"eval.judge={text}"]).eval.judge


def announce_judge(judge: "JudgeConfig | None") -> None:
    """Say which Python file runs, and which server gets a key, before it does."""
    from fastslow.config import judge_reach

    for what in judge_reach(judge):
        tell(f"the judge is {what}")
