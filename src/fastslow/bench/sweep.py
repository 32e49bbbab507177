"""A grid over a recipe's keys, each cell with several seeds; resumes, as every run does.

output_dir/
  runs/<settings>/seed-0/    run folders
  sweep.json, table.md       results
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from fastslow.atomic_io import write_text
from fastslow.bench.suite import finished, in_parallel
from fastslow.bench.sweep_table import as_markdown
from fastslow.bench.table import interval
from fastslow.config import Recipe, faults_of_parts, load_recipe
from fastslow.errors import ConfigError, DataError, NonFiniteError
from fastslow.evaluation import accuracy_interval, student_interval
from fastslow.objectives import objective_problems
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.preflight import check_parts
from fastslow.training.state.event_log import Listener, ignore
from fastslow.training.state.events import Event
from fastslow.training.state.summary import ContinualSummary, RunSummary, read_summary

HIGHER = {"accuracy": True, "loss": False, "reward": True, "win_rate": True}
"""Metrics that cells can be ranked by, and whether higher is better."""
METRICS = (*HIGHER, "reverse_kl", "mean_length")
FIXED = ("output_dir", "data.eval")
"""Keys that cannot be swept: where runs are written, and what they are compared on."""
OnStep = Callable[[str, int, int | None], None]
"""Called with a run's label, its step, and the total number of steps if known."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One choice of the swept settings."""

    settings: Mapping[str, str]
    """The swept keys with their values, as given."""
    recipes: tuple[Recipe, ...]
    """One for each seed."""

    @property
    def label(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.settings.items())


@dataclass(frozen=True, slots=True)
class Sweep:
    """All cells, and the folder of their runs and results."""

    folder: Path
    cells: tuple[Cell, ...]


def plan_sweep(
    source: str | Path | Mapping[str, Any], settings: Sequence[str], *, seeds: int = 1
) -> Sweep:
    """The grid of the settings that have several values, in the order given.

    Args:
        source: as for `load_recipe`. Its `output_dir` is the sweep's folder, its `seed` the first.
        settings: `section.key=value`, or several values with commas between them; commas inside
            brackets, braces and quotes belong to a value.
        seeds: runs of each cell, with seeds one apart.

    Raises ConfigError with the faults of all cells.
    """
    fixed, axes = _axes(settings)
    if "seed" in axes and seeds > 1:
        raise ConfigError("seed: several values and --seeds; give one of the two")
    if not axes and seeds == 1:
        raise ConfigError(
            "nothing to sweep; give a key several values, as train.learning_rate=1e-4,3e-4, or "
            "--seeds"
        )
    swept_seeds = axes.pop("seed", None)
    grid = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    first = load_recipe(source, [*fixed, *_overrides(grid[0])], checks=[objective_problems])
    numbers = swept_seeds or [str(first.seed + i) for i in range(seeds)]
    folder = Path(first.output_dir)
    names = _names(grid)
    cells, faults = [], {}
    for choice, name in zip(grid, names, strict=True):
        recipes = []
        for seed in numbers:
            where = folder / "runs" / name / f"seed-{seed}"
            overrides = [*fixed, *_overrides(choice), f"seed={seed}", f"output_dir={where}"]
            try:
                recipes.append(load_recipe(source, overrides, checks=[objective_problems]))
            except ConfigError as error:
                faults[name] = error.problems
        cells.append(Cell(choice, tuple(recipes)))
    if faults:
        raise ConfigError(*faults_of_parts(faults, len(grid)))
    if not first.all_eval_sources:
        raise ConfigError("data.eval: is missing; runs of a sweep are compared on held-out pairs")
    return Sweep(folder, tuple(cells))


def run_sweep(
    sweep: Sweep, *, by: str = "accuracy", workers: int = 1, on_step: OnStep = lambda *_: None
) -> dict[str, Any]:
    """Train the runs that are not finished, and write the results.

    Args:
        sweep: what `plan_sweep` made.
        by: the metric that ranks cells, a key of HIGHER.
        workers: trainings in parallel, in processes of one thread each if more than one.
        on_step: called with each run's progress; with one worker only.

    Returns `cells`, each with its `settings`, `runs`, and the held-out metrics at the end as
    `mean`, `low` and `high`: with several seeds Student's over them, with one the interval of
    an accuracy over its pairs. `best` is the index of the best cell; each other cell has in
    `behind` how far it is behind, compared seed by seed. A cell with a diverged run has an `error`
    instead, and is not ranked.

    Raises StoppedError if a signal stopped a run, ConfigError if nothing was measured,
    NonFiniteError if all cells have diverged runs.
    """
    _check_ranking(sweep, by)
    _check_cells(sweep)
    recipes = [(cell, recipe) for cell in sweep.cells for recipe in cell.recipes]
    calls = [
        partial(_train, recipe, _steps(f"{cell.label} seed {recipe.seed}", on_step))
        if workers == 1
        else partial(_train, recipe, ignore)
        for cell, recipe in recipes
    ]
    diverged = dict(filter(None, in_parallel(calls, workers=workers)))
    results = _results(sweep, by, diverged)
    write_text(sweep.folder / "sweep.json", json.dumps(results, indent=1) + "\n")
    write_text(sweep.folder / "table.md", as_markdown(results))
    return results


def split_values(text: str) -> list[str]:
    """The values between those commas that are outside brackets, braces and quotes.

    >>> split_values("1e-4, [q_proj,v_proj],'a,b'")
    ['1e-4', '[q_proj,v_proj]', "'a,b'"]
    """
    values, depth, quote = [""], 0, ""
    for mark in text:
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "'\"":
            quote = mark
        depth += 0 if quote else (mark in "[{") - (mark in "]}")
        if mark == "," and depth == 0 and not quote:
            values.append("")
        else:
            values[-1] += mark
    return [value.strip() for value in values]


def _axes(settings: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The settings with one value, and the values of the other settings by key."""
    fixed: list[str] = []
    axes: dict[str, list[str]] = {}
    faults = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        values = split_values(text)
        if not equals or len(values) == 1:
            fixed.append(setting)
            continue
        if key in axes:
            faults.append(f"{key}: is swept twice; give all its values at once")
        if key in FIXED:
            faults.append(f"{key}: cannot be swept; give one value")
        if "" in values or len(set(values)) < len(values):
            faults.append(f"{key}: got {text}; give each value once, with a comma between two")
        axes[key] = values
    if faults:
        raise ConfigError(*faults)
    return fixed, axes


def _overrides(choice: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in choice.items()]


def _names(grid: Sequence[Mapping[str, str]]) -> list[str]:
    """A folder name for each choice, which does not depend on the rest of the grid."""
    names = []
    for choice in grid:
        text = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in choice.items())
        name = re.sub(r"[^\w.=,+-]+", "_", text).strip("._")[:120] or "all"
        if name in names:
            raise ConfigError(f"{name}: two cells would have this folder; give shorter values")
        names.append(name)
    return names


def _check_ranking(sweep: Sweep, by: str) -> None:
    if by not in HIGHER:
        raise ConfigError(f"--by: got {by!r}; allowed are {', '.join(HIGHER)}")
    objectives = {json.dumps(recipe.objective.model_dump(), sort_keys=True, default=str)
                  for cell in sweep.cells for recipe in cell.recipes}  # fmt: skip
    if by == "loss" and len(objectives) > 1:
        raise ConfigError("--by: losses of different objectives cannot be compared; give another")


def _check_cells(sweep: Sweep) -> None:
    """Refuse cells that could not be trained before others are; one seed of each is enough."""
    faults: dict[str, Sequence[str]] = {}
    for cell in sweep.cells:
        left = [r for r in cell.recipes if not (Path(r.output_dir) / "summary.json").exists()]
        if not left:
            continue
        recipe = left[0]
        try:
            check_parts(recipe, ProcessGroup(recipe.train.device))
        except (ConfigError, DataError) as error:
            faults[cell.label] = error.problems if isinstance(error, ConfigError) else [str(error)]
    if faults:
        raise ConfigError(*faults_of_parts(faults, len(sweep.cells)))


def _train(recipe: Recipe, listener: Listener) -> tuple[str, str] | None:
    """Train a run; its folder and the error if it diverges, which is a result of its settings."""
    try:
        finished(recipe, listener)
    except NonFiniteError as error:
        return recipe.output_dir, f"seed {recipe.seed}: {error}"
    return None


def _steps(label: str, on_step: OnStep) -> Listener:
    """A listener that reports the steps of a run."""
    total: int | None = None

    def listen(event: Event) -> None:
        nonlocal total
        if event["event"] == "start":
            total = event["total_steps"]
        elif event["event"] == "step":
            on_step(label, event["step"], total)
        elif event["event"] == "already_complete":
            on_step(label, 1, 1)

    return listen


def _results(sweep: Sweep, by: str, diverged: Mapping[str, str]) -> dict[str, Any]:
    """`diverged` has the errors of runs by their folders."""
    errors = [[diverged[r.output_dir] for r in cell.recipes if r.output_dir in diverged]
              for cell in sweep.cells]  # fmt: skip
    measured = {
        place: [_final(read_summary(Path(r.output_dir) / "summary.json")) for r in cell.recipes]
        for place, cell in enumerate(sweep.cells)
        if not errors[place]
    }
    if not measured:
        raise NonFiniteError(f"every cell diverged; the first one: {errors[0][0]}")
    ranked = {
        place: [run[by] for run in runs if run.get(by) is not None]
        for place, runs in measured.items()
    }
    if any(len(ranked[place]) < len(runs) for place, runs in measured.items()):
        raise ConfigError(f"--by: {by} was not measured in every run; give one of the others")
    sign = 1 if HIGHER[by] else -1
    best = max(ranked, key=lambda place: sign * fmean(ranked[place]))
    cells = []
    for place, cell in enumerate(sweep.cells):
        row: dict[str, Any] = {
            "settings": dict(cell.settings),
            "seeds": [recipe.seed for recipe in cell.recipes],
            "runs": [str(Path(r.output_dir).relative_to(sweep.folder)) for r in cell.recipes],
        }
        if errors[place]:
            row["error"] = errors[place][0]
        else:
            row |= dict(_intervals(measured[place]))
            if place != best:
                pairs = zip(ranked[place], ranked[best], strict=True)
                gaps = [sign * (top - value) for value, top in pairs]
                row["behind"] = interval(gaps, student_interval)
        cells.append(row)
    return {"by": by, "best": best, "cells": cells}


def _final(summary: RunSummary | ContinualSummary) -> dict[str, Any]:
    """The held-out measurement at the end; for several domains their mean."""
    if isinstance(summary, RunSummary):
        return summary.eval["final"] or {}
    rows = summary.after[-1] if summary.after else []
    shared = [key for key in METRICS if rows and all(row.get(key) is not None for row in rows)]
    return {key: fmean(row[key] for row in rows) for key in shared}


def _intervals(runs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, float]]]:
    for key in METRICS:
        values = [run.get(key) for run in runs]
        known = [float(value) for value in values if value is not None]
        if len(known) < len(runs):
            continue
        bounds = interval(known, student_interval)
        if key == "accuracy" and len(runs) == 1 and (ends := accuracy_interval(runs[0])):
            bounds |= {"low": ends[0], "high": ends[1]}
        yield key, bounds
