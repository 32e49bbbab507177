"""`fastslow bench online`: what learning from the policy's own answers is worth.

On worlds, where the true reward is known, or on real prompts with one judge to learn from and
another to be measured by. Offline methods learn from the same stored pairs, 4 times over: of all
of the world's text, or of a narrow slice of it. The others learn from as many answers of their
own, in rounds or in every step. On worlds each chooses its settings on worlds that are not
reported.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from fastslow.atomic_io import write_rows, write_text
from fastslow.bench.continual import TUNING_SEEDS, Tell
from fastslow.bench.curve import Curve
from fastslow.bench.measure import measure_run
from fastslow.bench.objectives import one_domain, pairs_with_scores
from fastslow.bench.online_table import as_markdown
from fastslow.bench.scenario import Scenario
from fastslow.bench.suite import gathered, kept, trained
from fastslow.bench.table import interval
from fastslow.config import load_recipe
from fastslow.streams.worlds import World
from fastslow.training.state.summary import versions

EPOCHS = 4
"""Passes of the offline methods over their pairs."""
ROUNDS = 3
ANSWERS = 4
MOMENTS = 4
"""Measurements on the way of methods that learn in every step."""
Setting = Mapping[str, Any]
"""Overrides of a recipe, by dotted key."""


@dataclass(frozen=True, slots=True)
class Method:
    """What a method learns from, and the settings that it chooses from; else it has the first."""

    data: str
    """`full` or `narrow` pairs; answers of its own in `rounds`, or `fresh` in every step."""
    grid: Sequence[Setting]
    against: str | None = None
    """The method that it is compared with, seed by seed."""
    frugal: bool = False
    """Whether its setting is to spend at most FRUGAL of the KL of that method."""


FRUGAL = 0.7


def _grid(rates: Sequence[float], **others: Sequence[Any]) -> list[Setting]:
    found: list[Setting] = [{"train.learning_rate": rate} for rate in rates]
    for key, values in others.items():
        found = [{**one, key.replace("__", "."): value} for one in found for value in values]
    return found


def _of_rewards(name: str) -> dict[str, tuple[Any]]:
    """An objective that maximises rewards; its beta is not DPO's and has its own value."""
    return {"objective__name": (name,), "objective__beta": (0.05,)}


OFFLINE = (1e-3, 3e-4)
HYPO = _grid((1e-3, 3e-3), online_kl__weight=(0.01, 0.03))
APO = _grid((1e-3,), train__epochs=(2, 4), rounds__momentum=(0.3, 1.0))
FRESH = (1e-3, 3e-3)
PASSES = {"online__steps_per_generation": (2,), "online__num_iterations": (4,)}
MANY_PASSES = {"online__steps_per_generation": (2,), "online__num_iterations": (10,)}
METHODS: Mapping[str, Method] = {
    "dpo": Method("full", _grid(OFFLINE)),
    "hypo": Method("full", HYPO, "dpo", frugal=True),
    "dpo, narrow pairs": Method("narrow", _grid(OFFLINE)),
    "hypo, narrow pairs": Method("narrow", HYPO, "dpo, narrow pairs", frugal=True),
    "iterative dpo": Method("rounds", _grid((1e-3,), train__epochs=(2, 1, 4))),
    "apo": Method("rounds", APO, "iterative dpo"),
    "apo, two rounds": Method(
        "rounds", [{**one, "rounds.count": 2} for one in APO], "iterative dpo"
    ),
    "sppo": Method(
        "rounds",
        _grid(
            (1e-3, 3e-3),
            objective__name=("sppo",),
            objective__targets=("probabilities",),
            objective__beta=(0.1,),
        ),
        "iterative dpo",
    ),
    "online dpo": Method("fresh", _grid(FRESH), "iterative dpo"),
    "rloo": Method("fresh", _grid(FRESH, **_of_rewards("rloo")), "online dpo"),
    "ppo": Method("fresh", _grid(FRESH, **_of_rewards("ppo"), **PASSES), "rloo"),
    "espo": Method("fresh", _grid((3e-4, 1e-3), **_of_rewards("espo"), **MANY_PASSES), "ppo"),
    "espo, ratios to 0.05": Method(
        "fresh",
        _grid(
            FRESH,
            **_of_rewards("espo"),
            objective__max_deviation=(0.05,),
            **MANY_PASSES,
        ),
        "ppo",
    ),
}


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
    chosen = {name: _best(name, tried) for name in names}
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

    The scenarios' recipe says who judges what is learned from (`judge`) and what is measured
    (`eval.judge`).
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
    rows = {name: {"setting": dict(own), **_row(name, records)} for name, own in chosen.items()}
    found = {"setting": setting, "methods": rows, "versions": versions()}
    write_text(out / "results.json", json.dumps(found, indent=1) + "\n")
    write_text(out / "table.md", as_markdown(found))
    return found


def _scenario(world: World, out: Path, pairs: int) -> Scenario:
    """One domain, with pairs of all that people say and of one-sentence answers alone."""
    made = one_domain(world, out, pairs)
    narrow = (row for row in pairs_with_scores(world) if _is_narrow(row))
    write_rows(_file(made, "narrow"), islice(narrow, pairs))
    return made


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
    """What a method did in one world; read from disk if it is there."""
    values = "-".join(f"{value:g}" if isinstance(value, float) else str(value)
                      for value in setting.values())  # fmt: skip
    label = f"{name.replace(', ', '-').replace(' ', '-')}-{values}"
    path = out / "records" / scenario.name / f"{label}.json"
    run = out / "runs" / scenario.name / label
    return kept(path, partial(_run, scenario, name, setting, run, pairs))


def _run(scenario: Scenario, name: str, setting: Setting, run: Path, pairs: int) -> dict[str, Any]:
    learned = pairs * setting.get("online.num_iterations", 1)
    sections = _sections(scenario, METHODS[name].data, pairs, learned=learned)
    raw = {**scenario.settings, "output_dir": str(run), "chase": None, **sections}
    recipe = load_recipe(raw, [f"{key}={value}" for key, value in setting.items()])
    curve = Curve(ANSWERS)
    trained(recipe, curve)
    if recipe.rounds is not None:
        _measure_against_base(scenario, run, curve.points)
    return {
        "scenario": scenario.name,
        "method": name,
        "setting": dict(setting),
        "curve": curve.points,
    }


def _measure_against_base(scenario: Scenario, run: Path, points: list[dict[str, Any]]) -> None:
    """Put the reverse KL against the base for that against the policy before each round."""
    folders = [*sorted(run.glob("rounds/*")), run]
    as_trained = replace(scenario, strengths=(1.0,))
    for point, folder in zip(points[1:], folders, strict=True):
        (measured,) = measure_run(as_trained, folder)[-1]["domains"]
        point["reverse_kl"] = measured["reverse_kl"]


def _sections(scenario: Scenario, data: str, pairs: int, *, learned: int) -> dict[str, Any]:
    """What a kind of method changes of a recipe; `learned` counts prompts of all passes."""
    settings, domain = scenario.settings, scenario.domains[0]
    train, measured = settings["train"], settings["eval"]
    files = {"train": str(_file(scenario, data)), "eval": domain.eval}
    sections: dict[str, Any] = {"data": {**settings["data"], **files}}
    if data in ("full", "narrow"):
        judge = measured.get("judge") or settings["judge"]
        own = {"train": {**train, "epochs": EPOCHS}, "eval": {**measured, "judge": judge}}
        return {**sections, **own, "judge": None, "online": None}
    asked = {"num_generations": ANSWERS, "max_new_tokens": measured["max_new_tokens"]}
    judge = settings.get("judge") or measured["judge"]
    sections |= {"train": {**train, "warmup_steps": 0, "schedule": "constant"}, "judge": judge}
    if data == "rounds":
        return {
            **sections,
            "online": None,
            "rounds": {**asked, "count": ROUNDS, "prompts_per_round": pairs // ROUNDS},
        }
    every = max(1, learned // train["batch_size"] // MOMENTS)
    return {**sections, "online": asked, "eval": {**measured, "every": every}}


def _best(name: str, records: Sequence[Mapping[str, Any]]) -> Setting:
    """The setting with the most reward; of a frugal method, within FRUGAL of the KL that the method
    it is compared with spends at its best."""
    by_setting = _by_setting(name, records)
    method = METHODS[name]
    if method.frugal and method.against is not None:
        _, _, kl = max(_by_setting(method.against, records), key=lambda one: one[1])
        frugal = [one for one in by_setting if one[2] <= FRUGAL * kl]
        by_setting = frugal or [min(by_setting, key=lambda one: one[2])]
    return max(by_setting, key=lambda one: one[1])[0]


def _by_setting(
    name: str, records: Sequence[Mapping[str, Any]]
) -> list[tuple[Setting, float, float]]:
    """Each setting of a method with its mean reward and reverse KL at the end."""
    own: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        if record["method"] == name:
            own.setdefault(json.dumps(record["setting"]), []).append(record["curve"][-1])
    return [
        (json.loads(key), fmean(m["reward"] for m in ends), fmean(m["reverse_kl"] for m in ends))
        for key, ends in own.items()
    ]


def _row(name: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds at the end and at each moment, and differences from another method."""
    curves: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for record in records:
        curves.setdefault(record["method"], {})[record["scenario"]] = record["curve"]
    own, against = curves[name], METHODS[name].against
    # Runs that leave answers early have fewer moments; the last one is the end of each.
    before = min(map(len, own.values())) - 1
    moments = [[curve[place] for curve in own.values()] for place in range(before)]
    moments.append([curve[-1] for curve in own.values()])
    row: dict[str, Any] = {
        "curve": [
            {key: interval([point[key] for point in points]) for key in points[0]}
            for points in moments
        ]
    }
    row["end"] = row["curve"][-1]
    if against in curves:
        pairs = [(curve[-1], curves[against][seed][-1]) for seed, curve in own.items()]
        row["against"] = against
        row["reward_difference"] = interval([a["reward"] - b["reward"] for a, b in pairs])
        row["kl_ratio"] = interval([a["reverse_kl"] / b["reverse_kl"] for a, b in pairs])
    return row
