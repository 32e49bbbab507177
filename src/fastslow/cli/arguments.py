"""What `train`, `train-reward` and `validate` have in common: a recipe, settings, or both."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from fastslow.config import Recipe

METAVAR = "RECIPE | SECTION.KEY=VALUE"
HELP = (
    "A YAML recipe, or the name of one that `fastslow recipes` lists; then settings that replace "
    "the recipe's. Settings alone do too: model=... data.train=..."
)
Arguments = typer.Argument(None, metavar=METAVAR, help=HELP)


def recipe_of(arguments: list[str] | None) -> "Recipe":
    """The checked recipe that arguments name. Raises ConfigError with all faults."""
    from fastslow.config import load_recipe
    from fastslow.errors import ConfigError
    from fastslow.objectives import objective_problems

    if not arguments:
        raise ConfigError(
            "give a recipe (a YAML file, or a name that `fastslow recipes` lists), or settings: "
            "model=... data.train=..."
        )
    first, *settings = arguments
    checks = [objective_problems]
    if "=" in first and not Path(first).is_file():
        return load_recipe({}, arguments, checks=checks)
    return load_recipe(first, settings, checks=checks)
