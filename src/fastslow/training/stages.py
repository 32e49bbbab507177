"""Stages: the runs before the last one in folders of their own, the last one in the run folder.

run folder/
  stages/01-sft/         an ordinary run
  adapters/, summary.json, ...    the last stage, which is the run's answer

A run that was killed goes on in the stage where it was. Stages that have not begun may still be
changed.
"""

from collections.abc import Callable
from pathlib import Path

from fastslow.atomic_io import write_text
from fastslow.config import Recipe, dump_recipe, stage_recipe
from fastslow.training.data.dataset import written_out
from fastslow.training.preflight import check_parts
from fastslow.training.state.event_log import Listener
from fastslow.training.state.run_lock import claim
from fastslow.training.state.summary import RunSummary, leader_of

TrainOne = Callable[[Recipe, Path, Listener], RunSummary | None]


def train_stages(
    recipe: Recipe, folder: Path, listener: Listener, *, train_one: TrainOne
) -> Recipe | None:
    """Train all stages but the last in a run's folder, which is locked for it.

    Returns the last stage's recipe, or None if a signal stopped the run before it. Raises
    ConfigError with the faults of all stages before the first is trained, StateError where the
    folder holds other stages.
    """
    folders = _folders(recipe, folder)
    check_parts(recipe, trained=sum((path / "summary.json").exists() for path in folders))
    _claim_stages(recipe, folder)
    write_text(folder / "config.yaml", dump_recipe(recipe))
    for index, path in enumerate(folders):
        stage = stage_recipe(
            recipe, index, start_from=_start(recipe, folder, index), output_dir=str(path)
        )
        listener(_event(recipe, index))
        if train_one(stage, path, listener) is None:
            return None
    listener(_event(recipe, len(recipe.stages) - 1))
    return last_stage(recipe, folder)


def _claim_stages(recipe: Recipe, folder: Path) -> None:
    folders = _folders(recipe, folder)
    claim(folder, recipe, apart=folders)
    for index, path in enumerate(folders):
        if path.exists():
            start = _start(recipe, folder, index)
            stage = stage_recipe(recipe, index, start_from=start, output_dir=str(path))
            claim(path, written_out(stage))


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
    return str(leader_of(_folders(recipe, folder)[index - 1], "stage"))


def _event(recipe: Recipe, index: int) -> dict[str, object]:
    of, name = len(recipe.stages), recipe.stages[index].name
    return {"event": "stage", "number": index + 1, "of": of, "name": name}
