"""Arguments of several commands: recipe and settings, judge, trust in a folder's code."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from fastslow.cli.console import tell

if TYPE_CHECKING:
    from fastslow.config import JudgeConfig, Recipe

METAVAR = "RECIPE | SECTION.KEY=VALUE"
HELP = (
    "A YAML recipe, or the name of one that `fastslow recipes` lists; then settings that override "
    "it. Settings alone also work: model=... data.train=..."
)
TrustCode = typer.Option(
    False,
    "--trust-code",
    help="Run the Python that the folder's config.yaml names (objective, judge, the model's own "
    "code), and ask the language model that it names as the judge.",
)
Arguments = typer.Argument(None, metavar=METAVAR, help=HELP)


class RecipeCommand(TyperCommand):
    """A command that takes settings; one given as an option gets a hint how to write it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # The class is click's or typer's, by version; only option errors have `option_name`.
            from fastslow.config.hints import as_setting

            hint = as_setting(str(getattr(error, "option_name", "")))
            if hint:
                vars(error)["message"] += f". Settings have no dashes: {hint}"
            raise


def recipe_of(arguments: list[str] | None) -> "Recipe":
    """The checked recipe that the arguments give. Raises ConfigError with all faults."""
    source, settings = source_of(arguments)  # Before the imports, which take seconds.

    from fastslow.config import load_recipe
    from fastslow.objectives import objective_problems

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
