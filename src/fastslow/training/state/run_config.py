"""A run folder's config.yaml: the recipe, with paths that let the run be opened from anywhere."""

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
    """The recipe with absolute paths to what is needed to open and resume its run: the base model,
    the adapter it starts from, the objective's file, the replayed data and the anchor's Fisher
    information."""
    return _with_paths(recipe, absolute)


def moved_with(recipe: Recipe, before: Path, now: Path) -> Recipe:
    """The recipe of a run whose folder has moved from `before` to `now`.

    Paths inside the folder move with it. So do paths outside it that no longer exist, if the same
    relative path exists from the new folder.
    """

    def new_path(name: str) -> str:
        candidate = now / relpath(name, before)
        if Path(name).is_relative_to(before):
            return str(candidate)
        return normpath(candidate) if candidate.exists() and not Path(name).exists() else name

    return _with_paths(recipe, new_path)


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
