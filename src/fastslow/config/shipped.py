"""The recipes that come with the package, by name."""

from difflib import get_close_matches
from importlib.resources import files
from pathlib import PurePath

from fastslow.errors import ConfigError

FOLDER = files("fastslow") / "recipes"


def recipe_names() -> list[str]:
    """Names of the recipes that come with fastslow."""
    names = (PurePath(file.name) for file in FOLDER.iterdir())
    return sorted(name.stem for name in names if name.suffix == ".yaml")


def recipe_text(name: str) -> str:
    """A recipe that comes with fastslow, as YAML. Raises ConfigError if the name is unknown."""
    if name not in recipe_names():
        raise ConfigError(f"recipe {name} does not exist{nearest_recipe(name)}")
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def recipe_summary(name: str) -> str:
    """One line on what a recipe is for: its first comment."""
    return recipe_text(name).splitlines()[0].removeprefix("#").strip()


def nearest_recipe(name: str) -> str:
    """The end of a message about a name that is neither a file nor a recipe."""
    close = get_close_matches(PurePath(name).stem, recipe_names(), n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}, which comes with fastslow?"
    return "; give a YAML file, or a name that `fastslow recipes` lists"
