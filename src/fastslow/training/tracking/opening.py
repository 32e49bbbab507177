"""Trackers of accelerate, opened for a run folder so that a resumed run continues the same one."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from accelerate import tracking

from fastslow.atomic_io import write_text
from fastslow.config import Recipe, flat
from fastslow.errors import ConfigError
from fastslow.foreign_files import read_json

RUNS = "trackers.json"
"""Which run of each tracker a run folder's is."""
PROJECT = "fastslow"
"""What trackers group runs by, where their own variables say nothing else."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError for those that are not installed."""
    here = {str(tracker) for tracker in tracking.get_available_trackers()}
    if missing := [name for name in names if name not in here]:
        raise ConfigError(
            f"report_to: {', '.join(missing)} not installed; run `pip install {' '.join(missing)}`"
            ", or leave it out"
        )


def open_tracker(name: str, recipe: Recipe, folder: Path, *, step: int, resumed: bool) -> Any:
    """A tracker of accelerate, started.

    Args:
        name: as of `report_to`.
        recipe: the whole run's, which a new one is described by.
        folder: the run's.
        step: how many steps have been told of.
        resumed: whether the run was begun before, and is continued in the tracker.

    Raises ConfigError with what it says, where it cannot be started.
    """
    known = read_json(folder / RUNS, dict[str, str]) if (folder / RUNS).exists() else {}
    resumed = resumed and name in known
    run = known[name] if resumed else uuid4().hex[:12]
    if name == "tensorboard" and not resumed:
        shutil.rmtree(folder / name, ignore_errors=True)
    settings = _settings(name, run, folder, step=step, resumed=resumed)
    try:
        tracker = tracking.LOGGER_TYPE_TO_CLASS[name](**settings)
        tracker.start()
        if not resumed:
            tracker.store_init_configuration(dict(_described(recipe)))
    except Exception as error:  # What its libraries raise is theirs to name.
        said = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"report_to: {name} cannot be started: {said}") from error
    if name == "mlflow":
        run = tracker.tracker.info.run_id
    write_text(folder / RUNS, json.dumps(known | {name: run}, indent=1) + "\n")
    return tracker


def _settings(name: str, run: str, folder: Path, *, step: int, resumed: bool) -> Mapping[str, Any]:
    """What accelerate's class is given so that it opens that very run."""
    title = folder.resolve().name
    match name:
        case "tensorboard":
            # What was told of steps after the checkpoint is told again.
            again = {"purge_step": step + 1} if resumed else {}
            return {"run_name": name, "logging_dir": str(folder), **again}
        case "wandb":
            # Its copy of the terminal would hold rows that warnings quote.
            return {"run_name": os.environ.get("WANDB_PROJECT", PROJECT), "name": title, "id": run,
                    "resume": "allow", "settings": {"console": "off"}}  # fmt: skip
        case "trackio":
            project = os.environ.get("TRACKIO_PROJECT", PROJECT)
            return {"run_name": project, "name": f"{title}-{run}", "resume": "allow"}
    own = {"run_id": run} if resumed else {"run_name": title}
    return {"experiment_name": PROJECT, **own}


def _described(recipe: Recipe) -> Iterator[tuple[str, str | int | float | bool]]:
    for key, value in flat(recipe.model_dump(mode="json")).items():
        if value is not None:
            yield key, value if isinstance(value, (str, int, float)) else json.dumps(value)
