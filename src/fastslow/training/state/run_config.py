"""A run folder's config.yaml: the recipe, with paths by which the run opens from anywhere."""

from collections.abc import Callable
from os.path import relpath
from pathlib import Path

from fastslow.adapters import absolute
from fastslow.atomic_io import write_text
from fastslow.config import Recipe, dump_recipe


def write_config(folder: Path, recipe: Recipe) -> None:
    """Write a run's recipe into its folder."""
    where = {"output_dir": str(folder.absolute())}
    written = with_absolute_paths(recipe.model_copy(update=where))
    write_text(folder / "config.yaml", dump_recipe(written))


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths of what is needed to open its run: the base model, the adapter
    it starts from, and a file with the objective."""
    return _with_paths(recipe, absolute)


def moved_with(recipe: Recipe, before: Path, now: Path) -> Recipe:
    """The recipe of a run that was in one folder and is in another now.

    What lay in its folder is taken from where that is now, and so is what lay beside it, wherever
    it is gone from its old place and is in the same place beside the new one.
    """

    def place(name: str) -> str:
        candidate = now / relpath(name, before)
        if Path(name).is_relative_to(before):
            return str(candidate)
        return str(candidate) if candidate.exists() and not Path(name).exists() else name

    return _with_paths(recipe, place)


def _with_paths(recipe: Recipe, change: Callable[[str], str]) -> Recipe:
    lora, objective = recipe.lora, recipe.objective
    if lora.start_from is not None:
        lora = lora.model_copy(update={"start_from": change(lora.start_from)})
    if "file" in objective.settings:
        objective = objective.model_copy(update={"file": change(objective.settings["file"])})
    return recipe.model_copy(
        update={"model": change(recipe.model), "lora": lora, "objective": objective}
    )
