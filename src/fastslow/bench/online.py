"""`fastslow bench online`: what learning from the policy's own answers is worth.

On worlds, where the true reward is known, or on real prompts with one judge for learning and
another for measuring. Offline methods learn from the same stored pairs, 4 times over: from all of
the world's text, or from a narrow slice of it. The others learn from as many answers of their own,
in rounds or in every step. On worlds, settings are chosen on worlds that are not reported.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from fastslow.atomic_io import write_rows, write_text
from fastslow.bench.continual import TUNING_SEEDS, Tell
from fastslow.bench.curve import Curve
from fastslow.bench.measure import measure_run
from fastslow.bench.objectives import one_domain, pairs_with_scores
from fastslow.bench.online_methods import METHODS, Setting
from fastslow.bench.online_results import best_setting, row
from fastslow.bench.online_table import as_markdown
from fastslow.bench.scenario import Scenario
from fastslow.bench.suite import gathered, kept, trained
from fastslow.config import load_recipe
from fastslow.errors import DataError
from fastslow.streams.worlds import World
from fastslow.training.state.summary import versions

EPOCHS = 4
"""Passes of the offline methods over their pairs."""
ROUNDS = 3
ANSWERS = 4
ALONE: Mapping[str, Any] = {"chase": None, "budget": None}
"""Neither a second module nor a KL budget: methods are compared at the same KL afterwards."""
MOMENTS = 4
"""Measurements during training for methods that learn in every step."""
STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Strengths of a finished policy's update, for its reward at other KLs than the final one."""


def bench_online(
    out: Path,
    *,
    seeds: Sequence[int],
    pairs: int,
    names: Sequence[str],
    workers: int,
    on_progress: Tell,
) -> dict[str, Any]:
    """Tune every method on the tuning worlds, run it on the others, write the results.

    Returns what `results.json` holds.
    """
    makers = [
        partial(_scenario, World(seed=seed, num_domains=1), out, pairs)
        for seed in (*TUNING_SEEDS, *seeds)
    ]
    progress = partial(on_progress, "making worlds")
    scenarios = gathered(makers, workers=workers, progress=progress)
    made = {scenario.name: scenario for scenario in scenarios}
    tuning = [made[f"world-{seed}"] for seed in TUNING_SEEDS]
    grids = {name: METHODS[name].grid for name in names}
    run = partial(_records, out=out, pairs=pairs, workers=workers)
    tried = run(tuning, grids, on_progress=partial(on_progress, "tuning"))
    chosen = {name: best_setting(name, tried) for name in names}
    reported = [made[f"world-{seed}"] for seed in seeds]
    only = {name: (setting,) for name, setting in chosen.items()}
    records = run(reported, only, on_progress=partial(on_progress, "measuring methods"))
    setting = {"worlds": list(seeds), "tuning_worlds": list(TUNING_SEEDS), "pairs": pairs}
    return _write(out, setting, chosen, records)


def bench_files(
    out: Path,
    scenarios: Sequence[Scenario],
    *,
    pairs: int,
    names: Sequence[str],
    workers: int,
    on_progress: Tell,
) -> dict[str, Any]:
    """The same on real prompts, each method in its first setting at the recipe's rate.

    The scenarios' recipe names the judge for learning (`judge`) and for measuring (`eval.judge`).
    """
    chosen = {name: _without_rate(METHODS[name].grid[0]) for name in names}
    records = _records(
        scenarios,
        {name: (setting,) for name, setting in chosen.items()},
        out=out,
        pairs=pairs,
        workers=workers,
        on_progress=partial(on_progress, "measuring methods"),
    )
    domain = scenarios[0].domains[0].name
    seeds = [scenario.settings["seed"] for scenario in scenarios]
    return _write(out, {"domain": domain, "seeds": seeds, "pairs": pairs}, chosen, records)


def _without_rate(setting: Setting) -> Setting:
    return {key: value for key, value in setting.items() if key != "train.learning_rate"}


def _write(
    out: Path,
    setting: Mapping[str, Any],
    chosen: Mapping[str, Setting],
    records: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    rows = {
        name: {"setting": dict(method_setting), **row(name, records)}
        for name, method_setting in chosen.items()
    }
    results = {"setting": setting, "methods": rows, "versions": versions()}
    write_text(out / "results.json", json.dumps(results, indent=1) + "\n")
    write_text(out / "table.md", as_markdown(results))
    return results


def _scenario(world: World, out: Path, pairs: int) -> Scenario:
    """One domain, with pairs of all kinds of answers and with pairs of one-sentence answers."""
    scenario = replace(one_domain(world, out, pairs), strengths=STRENGTHS)
    narrow = (row for row in pairs_with_scores(world) if _is_narrow(row))
    write_rows(_file(scenario, "narrow"), islice(narrow, pairs))
    return scenario


def _is_narrow(row: Mapping[str, Any]) -> bool:
    return all(row[side].count(".") == 1 for side in ("chosen", "rejected"))


def _file(scenario: Scenario, data: str) -> Path:
    full = Path(scenario.domains[0].train_sources[0])
    return full.with_name("narrow.jsonl") if data == "narrow" else full


def _records(
    scenarios: Sequence[Scenario],
    grids: Mapping[str, Sequence[Setting]],
    *,
    out: Path,
    pairs: int,
    workers: int,
    on_progress: Any,
) -> list[dict[str, Any]]:
    calls = [
        partial(_record, scenario, name, setting, out, pairs)
        for scenario in scenarios
        for name, grid in grids.items()
        for setting in grid
    ]
    return gathered(calls, workers=workers, progress=on_progress)


def _record(
    scenario: Scenario, name: str, setting: Setting, out: Path, pairs: int
) -> dict[str, Any]:
    """The record of a method in one world; read from disk if it exists."""
    values = "-".join(f"{value:g}" if isinstance(value, float) else str(value)
                      for value in setting.values())  # fmt: skip
    label = re.sub(r"[^\w.]+", "-", f"{name}-{values}")
    path = out / "records" / scenario.name / f"{label}.json"
    run = out / "runs" / scenario.name / label
    return kept(path, partial(_run, scenario, name, setting, run, pairs))


def _run(scenario: Scenario, name: str, setting: Setting, run: Path, pairs: int) -> dict[str, Any]:
    learned = pairs * setting.get("online.num_iterations", 1)
    sections = _sections(scenario, METHODS[name].data, pairs, learned=learned)
    raw = {**scenario.settings, "output_dir": str(run), **ALONE, **sections}
    recipe = load_recipe(raw, [f"{key}={value}" for key, value in setting.items()])
    curve = Curve(ANSWERS)
    about = {"scenario": scenario.name, "method": name, "setting": dict(setting)}
    shutil.rmtree(run, ignore_errors=True)  # A curve needs a whole run, with its time.
    try:
        trained(recipe, curve)
    except DataError as error:  # The policy collapsed: its samples give nothing to learn.
        return {**about, "failed": str(error)}
    points = measure_run(scenario, run)
    if recipe.rounds is not None:
        _measure_against_base(scenario, run, curve.points)
    return {**about, "curve": curve.points, "points": points}


def _measure_against_base(scenario: Scenario, run: Path, points: list[dict[str, Any]]) -> None:
    """Replace each round's reverse KL to the previous policy by that to the base."""
    as_trained = replace(scenario, strengths=(1.0,))
    for point, folder in zip(points[1:], sorted(run.glob("rounds/*")), strict=True):
        (measured,) = measure_run(as_trained, folder)[-1]["domains"]
        point["reverse_kl"] = measured["reverse_kl"]


def _sections(scenario: Scenario, data: str, pairs: int, *, learned: int) -> dict[str, Any]:
    """What a kind of method changes in a recipe; `learned` counts prompts over all passes."""
    settings, domain = scenario.settings, scenario.domains[0]
    train, measured = settings["train"], settings["eval"]
    files = {"train": str(_file(scenario, data)), "eval": domain.eval}
    sections: dict[str, Any] = {"data": {**settings["data"], **files}}
    if data in ("full", "narrow"):
        judge = measured.get("judge") or settings["judge"]
        overrides = {"train": {**train, "epochs": EPOCHS}, "eval": {**measured, "judge": judge}}
        return {**sections, **overrides, "judge": None, "online": None}
    sampling = {"num_generations": ANSWERS, "max_new_tokens": measured["max_new_tokens"]}
    judge = settings.get("judge") or measured["judge"]
    sections |= {"train": {**train, "warmup_steps": 0, "schedule": "constant"}, "judge": judge}
    if data == "rounds":
        return {
            **sections,
            "online": None,
            "rounds": {**sampling, "count": ROUNDS, "prompts_per_round": pairs // ROUNDS},
        }
    every = max(1, learned // train["batch_size"] // MOMENTS)
    return {**sections, "online": sampling, "eval": {**measured, "every": every}}
