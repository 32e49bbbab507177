"""Stages: the runs before the last one in folders of their own, the last one in the run folder.

run folder/
  stages/01-sft/         an ordinary run
  adapters/, summary.json, ...    the last stage, which is the run's answer

A run that was killed goes on in the stage where it was.
"""

from collections.abc import Callable
from pathlib import Path

from fastslow.config import Recipe, stage_recipe
from fastslow.errors import StateError
from fastslow.training.events import Listener
from fastslow.training.summary import RunSummary

TrainOne = Callable[[Recipe, Path, Listener], RunSummary | None]


def train_stages(
    recipe: Recipe, folder: Path, listener: Listener, *, train_one: TrainOne
) -> Recipe | None:
    """Train all stages but the last in a run's folder, which is locked for it.

    Returns the last stage's recipe, or None if a signal stopped the run before it.
    """
    for index, path in enumerate(_folders(recipe, folder)):
        stage = stage_recipe(
            recipe, index, start_from=_start(recipe, folder, index), output_dir=str(path)
        )
        listener(_event(recipe, index))
        if train_one(stage, path, listener) is None:
            return None
    listener(_event(recipe, len(recipe.stages) - 1))
    return last_stage(recipe, folder)


def last_stage(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe that the run folder itself is of; the recipe where it has no stages.

    Raises StateError where the stage before is missing or not finished.
    """
    if not recipe.stages:
        return recipe
    index = len(recipe.stages) - 1
    return stage_recipe(recipe, index, start_from=_start(recipe, folder, index))


def _folders(recipe: Recipe, folder: Path) -> list[Path]:
    """Of all stages but the last."""
    return [
        folder / "stages" / f"{number:02d}-{stage.name}"
        for number, stage in enumerate(recipe.stages[:-1], 1)
    ]


def _start(recipe: Recipe, folder: Path, index: int) -> str:
    """The adapter that a stage starts from; of no meaning for the first."""
    if index == 0:
        return ""
    before = _folders(recipe, folder)[index - 1]
    if not (before / "summary.json").exists():
        raise StateError(f"the stage in {before} is missing or not finished; train it again")
    summary = RunSummary.read(before / "summary.json")
    return str(before / summary.adapters[summary.leader])


def _event(recipe: Recipe, index: int) -> dict[str, object]:
    of, name = len(recipe.stages), recipe.stages[index].name
    return {"event": "stage", "number": index + 1, "of": of, "name": name}
