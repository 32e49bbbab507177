"""A run folder's config.yaml: the recipe, with paths by which the run opens from anywhere."""

from collections.abc import Callable
from os.path import normpath, relpath
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
    """The recipe with absolute paths of what is needed to open its run and to resume it: the base
    model, the adapter it starts from, a file with the objective, what is replayed and how much each
    weight is held."""
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
        return normpath(candidate) if candidate.exists() and not Path(name).exists() else name

    return _with_paths(recipe, place)


def _with_paths(recipe: Recipe, change: Callable[[str], str]) -> Recipe:
    lora, objective, replay, anchor = recipe.lora, recipe.objective, recipe.replay, recipe.anchor
    if lora.start_from is not None:
        lora = lora.model_copy(update={"start_from": change(lora.start_from)})
    if "file" in objective.settings:
        objective = objective.model_copy(update={"file": change(objective.settings["file"])})
    if replay is not None:
        replay = replay.model_copy(update={"memory": [change(file) for file in replay.memory]})
    if anchor is not None and anchor.fisher is not None:
        anchor = anchor.model_copy(update={"fisher": change(anchor.fisher)})
    return recipe.model_copy(
        update={
            "model": change(recipe.model),
            "lora": lora,
            "objective": objective,
            "replay": replay,
            "anchor": anchor,
        }
    )
