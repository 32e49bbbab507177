"""Opens accelerate's trackers for a run folder; a resumed run continues in the same ones."""

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
"""File with the id of the folder's run in each tracker."""
PROJECT = "fastslow"
"""The project that trackers group runs under, unless their own variables name another."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError for trackers that are not installed."""
    available = {str(tracker) for tracker in tracking.get_available_trackers()}
    if missing := [name for name in names if name not in available]:
        raise ConfigError(
            f"report_to: {', '.join(missing)} not installed; run `pip install {' '.join(missing)}`"
            ", or leave it out"
        )


def open_tracker(name: str, recipe: Recipe, folder: Path, *, step: int, resumed: bool) -> Any:
    """Start one of accelerate's trackers.

    Args:
        name: as in `report_to`.
        recipe: of the whole run; a new run in the tracker is described by it.
        folder: of the run.
        step: number of steps reported so far.
        resumed: True if the run had begun before, so that it continues in the tracker.

    Raises ConfigError with the tracker's message if it cannot be started.
    """
    run_ids = read_json(folder / RUNS, dict[str, str]) if (folder / RUNS).exists() else {}
    resumed = resumed and name in run_ids
    run = run_ids[name] if resumed else uuid4().hex[:12]
    if name == "tensorboard" and not resumed:
        shutil.rmtree(folder / name, ignore_errors=True)
    settings = _settings(name, run, folder, step=step, resumed=resumed)
    try:
        tracker = tracking.LOGGER_TYPE_TO_CLASS[name](**settings)
        tracker.start()
        if not resumed:
            tracker.store_init_configuration(dict(_described(recipe)))
    except Exception as error:  # The tracker's libraries may raise anything.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"report_to: {name} cannot be started: {reason}") from error
    if name == "mlflow":
        run = tracker.tracker.info.run_id
    write_text(folder / RUNS, json.dumps(run_ids | {name: run}, indent=1) + "\n")
    return tracker


def _settings(name: str, run: str, folder: Path, *, step: int, resumed: bool) -> Mapping[str, Any]:
    """Arguments with which accelerate's class opens this run."""
    title = folder.resolve().name
    match name:
        case "tensorboard":
            # Steps after the checkpoint are reported again.
            purge = {"purge_step": step + 1} if resumed else {}
            return {"run_name": name, "logging_dir": str(folder), **purge}
        case "wandb":
            # Its copy of the terminal would contain rows that warnings quote.
            return {"run_name": os.environ.get("WANDB_PROJECT", PROJECT), "name": title, "id": run,
                    "resume": "allow", "settings": {"console": "off"}}  # fmt: skip
        case "trackio":
            project = os.environ.get("TRACKIO_PROJECT", PROJECT)
            return {"run_name": project, "name": f"{title}-{run}", "resume": "allow"}
    identity = {"run_id": run} if resumed else {"run_name": title}
    return {"experiment_name": PROJECT, **identity}


def _described(recipe: Recipe) -> Iterator[tuple[str, str | int | float | bool]]:
    for key, value in flat(recipe.model_dump(mode="json")).items():
        if value is not None:
            yield key, value if isinstance(value, (str, int, float)) else json.dumps(value)
