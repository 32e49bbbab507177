"""Stages: consecutive runs, each in its own folder and starting from the previous one's module.

run folder/
  stages/01-sft/, stages/02-preferences/    ordinary runs
  adapters/, summary.json                   of the last one, the result of the run

An interrupted run resumes in the stage it was in. Stages that have not started may still be
changed.
"""

from pathlib import Path

from fastslow.config import Recipe, stage_recipe
from fastslow.errors import StateError
from fastslow.training.context import RunContext
from fastslow.training.data.dataset import written_out
from fastslow.training.preflight import check_parts, part_warnings
from fastslow.training.state.parts import leader_of
from fastslow.training.state.run_config import write_config
from fastslow.training.state.run_lock import check_run_folder


def train_stages(recipe: Recipe, folder: Path, context: RunContext) -> list[Path] | None:
    """Train all stages in the run's folder, which is locked.

    Returns their folders, or None if the run was asked to stop. Raises ConfigError with the faults
    of all stages before the first is trained, and StateError if the folder holds other stages.
    """
    folders = _folders(recipe, folder)
    trained = sum((path / "summary.json").exists() for path in folders)
    check_parts(recipe, context.processes, trained=trained)
    for message in part_warnings(recipe, context.processes, trained=trained):
        context.listener({"event": "warning", "message": message})
    _check_folders(recipe, folder)
    write_config(folder, recipe)
    for index, path in enumerate(folders):
        number, name = index + 1, recipe.stages[index].name
        context.listener({"event": "stage", "number": number, "of": len(folders), "name": name})
        if context.train(_stage(recipe, folder, index), path) is None:
            return None
    return folders


def _check_folders(recipe: Recipe, folder: Path) -> None:
    folders = _folders(recipe, folder)
    check_run_folder(folder, recipe)
    others = sorted(set(folder.glob("stages/*")) - set(folders))
    if others:
        raise StateError(
            f"{folder} holds a run of other stages ({others[0].name}); give another output_dir, or "
            "remove the folder to start over"
        )
    for index, path in enumerate(folders):
        if path.exists():
            check_run_folder(path, written_out(_stage(recipe, folder, index)))


def _stage(recipe: Recipe, folder: Path, index: int) -> Recipe:
    """One stage's recipe, which starts from the adapter of the previous stage."""
    folders = _folders(recipe, folder)
    start = str(leader_of(folders[index - 1], "stage")) if index else ""
    return stage_recipe(recipe, index, start_from=start, output_dir=str(folders[index]))


def _folders(recipe: Recipe, folder: Path) -> list[Path]:
    return [
        folder / "stages" / f"{number:02d}-{stage.name}"
        for number, stage in enumerate(recipe.stages, 1)
    ]
