"""`fastslow bench online`: what learning from the policy's own answers is worth, on worlds.

Offline methods learn from the same stored pairs, 4 times over: of all that people there say, or of
a narrow slice of it. Methods in rounds learn from their own answers, judged by the true reward.
Each chooses its settings on worlds that are not reported.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from fastslow.bench.continual import TUNING_SEEDS, Tell
from fastslow.bench.measure import measure_run
from fastslow.bench.objectives import one_domain, pairs_with_scores
from fastslow.bench.scenario import Scenario
from fastslow.bench.suite import gathered, kept, trained
from fastslow.bench.table import interval
from fastslow.config import load_recipe
from fastslow.durable import write_rows, write_text
from fastslow.streams.worlds import World
from fastslow.training.summary import versions

EPOCHS = 4
"""Passes of the offline methods over their pairs."""
ROUNDS = 3
ANSWERS = 4
Setting = Mapping[str, Any]
"""Overrides of a recipe, by dotted key."""


@dataclass(frozen=True, slots=True)
class Method:
    """What a method learns from, and the settings that it chooses from."""

    data: str
    """`full` or `narrow` pairs, or the `prompts` alone."""
    grid: Sequence[Setting]


def _grid(rates: Sequence[float], **others: Sequence[Any]) -> list[Setting]:
    found: list[dict[str, Any]] = [{"train.learning_rate": rate} for rate in rates]
    for key, values in others.items():
        found = [{**one, key.replace("__", "."): value} for one in found for value in values]
    return found


OFFLINE = (3e-4, 1e-3, 3e-3)
IN_ROUNDS = (1e-3, 3e-3)
WEIGHTS = (0.01, 0.03)
METHODS: Mapping[str, Method] = {
    "dpo": Method("full", _grid(OFFLINE)),
    "hypo": Method("full", _grid(OFFLINE[1:], online_kl__weight=WEIGHTS)),
    "dpo, narrow pairs": Method("narrow", _grid(OFFLINE)),
    "hypo, narrow pairs": Method("narrow", _grid(OFFLINE[1:], online_kl__weight=WEIGHTS)),
    "iterative dpo": Method("prompts", _grid(IN_ROUNDS)),
    "apo": Method("prompts", _grid(IN_ROUNDS, rounds__momentum=(0.3, 0.6, 1.0))),
    "sppo": Method(
        "prompts",
        _grid(
            IN_ROUNDS,
            objective__name=("sppo",),
            objective__targets=("probabilities",),
            objective__beta=(0.1,),
        ),
    ),
}
AGAINST = {"hypo": "dpo", "hypo, narrow pairs": "dpo, narrow pairs", "apo": "iterative dpo",
           "sppo": "iterative dpo"}  # fmt: skip
"""What a method is compared with, world by world."""
FRUGAL = ("hypo", "hypo, narrow pairs")
"""Of these the setting is wanted that spends the least KL for what the other method gains."""


def bench_online(
    out: Path,
    *,
    seeds: Sequence[int],
    pairs: int,
    names: Sequence[str],
    workers: int,
    tell: Tell,
) -> dict[str, Any]:
    """Tune every method on the tuning worlds, run it on the others, write the results.

    Returns what `results.json` holds.
    """
    makers = [
        partial(_scenario, World(seed=seed, num_domains=1), out, pairs)
        for seed in (*TUNING_SEEDS, *seeds)
    ]
    made = {one.name: one for one in gathered(makers, workers=workers,
                                              progress=partial(tell, "making worlds"))}  # fmt: skip
    tuning = [made[f"world-{seed}"] for seed in TUNING_SEEDS]
    grids = {name: METHODS[name].grid for name in names}
    run = partial(_records, out=out, pairs=pairs, workers=workers)
    tried = run(tuning, grids, tell=partial(tell, "tuning"))
    chosen = {name: _best(name, tried) for name in names}
    reported = [made[f"world-{seed}"] for seed in seeds]
    only = {name: (setting,) for name, setting in chosen.items()}
    records = run(reported, only, tell=partial(tell, "measuring methods"))
    found = {
        "setting": {"worlds": list(seeds), "tuning_worlds": list(TUNING_SEEDS), "pairs": pairs},
        "methods": {name: {"setting": dict(chosen[name]), **_row(name, records)} for name in names},
        "versions": versions(),
    }
    write_text(out / "results.json", json.dumps(found, indent=1) + "\n")
    write_text(out / "table.md", as_markdown(found))
    return found


def _scenario(world: World, out: Path, pairs: int) -> Scenario:
    """One domain, with pairs of all that people say and of one-sentence answers alone."""
    made = one_domain(world, out, pairs)
    narrow = (row for row in pairs_with_scores(world) if _is_narrow(row))
    write_rows(_file(made, "narrow"), islice(narrow, pairs))
    return replace(made, strengths=(1.0,))


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
    tell: Any,
) -> list[dict[str, Any]]:
    calls = [
        partial(_record, scenario, name, setting, out, pairs)
        for scenario in scenarios
        for name, grid in grids.items()
        for setting in grid
    ]
    return gathered(calls, workers=workers, progress=tell)


def _record(
    scenario: Scenario, name: str, setting: Setting, out: Path, pairs: int
) -> dict[str, Any]:
    """What a method did in one world; read from disk if it is there."""
    values = "-".join(f"{value:g}" if isinstance(value, float) else value
                      for value in setting.values())  # fmt: skip
    label = f"{name.replace(', ', '-').replace(' ', '-')}-{values}"
    path = out / "records" / scenario.name / f"{label}.json"
    run = out / "runs" / scenario.name / label
    return kept(path, partial(_run, scenario, name, setting, run, pairs))


def _run(scenario: Scenario, name: str, setting: Setting, run: Path, pairs: int) -> dict[str, Any]:
    data = METHODS[name].data
    shared = scenario.settings["train"]
    sections: dict[str, Any] = {"train": {**shared, "epochs": EPOCHS}}
    if data == "prompts":
        judge = scenario.settings["eval"]["judge"]
        sections = {
            "train": {**shared, "warmup_steps": 0, "schedule": "constant"},
            "judge": judge,
            "rounds": {
                "count": ROUNDS, "prompts_per_round": pairs // ROUNDS, "answers": ANSWERS,
                "max_new_tokens": scenario.settings["eval"]["sample_tokens"],
            },
        }  # fmt: skip
    raw = {
        **scenario.settings,
        **sections,
        "output_dir": str(run),
        "chase": None,
        "data": {**scenario.settings["data"], "train": str(_file(scenario, data))},
        "eval": {"samples": 0},
    }
    trained(load_recipe(raw, [f"{key}={value}" for key, value in setting.items()]))
    folders = [*sorted(run.glob("rounds/*")), run]
    base, *_ = points = measure_run(scenario, run)
    found = [points[-1], *(measure_run(scenario, folder)[-1] for folder in folders[:-1])]
    return {
        "scenario": scenario.name,
        "method": name,
        "setting": dict(setting),
        "base": base["domains"][0],
        "rounds": [point["domains"][0] for point in (*found[1:], found[0])],
    }


def _best(name: str, records: Sequence[Mapping[str, Any]]) -> Setting:
    """The setting with the most reward; of frugal methods that with the least KL that has as much
    as the method they are compared with has at its best."""
    by_setting = _by_setting(name, records)
    if name in FRUGAL:
        enough = max(reward for _, reward, _ in _by_setting(AGAINST[name], records))
        frugal = [one for one in by_setting if one[1] >= enough]
        if frugal:
            return min(frugal, key=lambda one: one[2])[0]
    return max(by_setting, key=lambda one: one[1])[0]


def _by_setting(
    name: str, records: Sequence[Mapping[str, Any]]
) -> list[tuple[Setting, float, float]]:
    """Each setting of a method with its mean reward and reverse KL at the end."""
    own: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        if record["method"] == name:
            own.setdefault(json.dumps(record["setting"]), []).append(record["rounds"][-1])
    return [
        (json.loads(key), fmean(m["reward"] for m in ends), fmean(m["reverse_kl"] for m in ends))
        for key, ends in own.items()
    ]


def _row(name: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    by_method: dict[str, dict[str, Mapping[str, Any]]] = {}
    for record in records:
        by_method.setdefault(record["method"], {})[record["scenario"]] = record
    own = by_method[name]
    ends = {world: record["rounds"][-1] for world, record in own.items()}
    row: dict[str, Any] = {
        key: interval([end[key] for end in ends.values()])
        for key in ("reward", "reverse_kl", "win_rate", "mean_length")
    }
    row["by_round"] = [
        {
            key: interval([record["rounds"][place][key] for record in own.values()])
            for key in ("reward", "reverse_kl")
        }
        for place in range(len(next(iter(own.values()))["rounds"]))
    ]
    other = {w: r["rounds"][-1] for w, r in by_method.get(AGAINST.get(name, ""), {}).items()}
    if other:
        row["against"] = AGAINST[name]
        row["reward_difference"] = interval(
            [ends[world]["reward"] - other[world]["reward"] for world in ends]
        )
        row["kl_ratio"] = interval(
            [ends[world]["reverse_kl"] / other[world]["reverse_kl"] for world in ends]
        )
    return row


def as_markdown(found: Mapping[str, Any]) -> str:
    """The results as two tables: at the end, and after each round."""
    return "\n".join([*_ends(found), "", *_by_round(found)]) + "\n"


def _ends(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "| method | setting | true reward | reverse KL (nats) | beats the base | tokens | "
        "against | reward more | KL ratio |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, row in found["methods"].items():
        setting = ", ".join(f"{key} {value}" for key, value in row["setting"].items())
        cells = [
            name, setting, _cell(row["reward"]), _cell(row["reverse_kl"]), _cell(row["win_rate"]),
            f"{row['mean_length']['mean']:.0f}", row.get("against", ""),
            _cell(row.get("reward_difference")), _cell(row.get("kl_ratio")),
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _by_round(found: Mapping[str, Any]) -> Iterator[str]:
    count = max(len(row["by_round"]) for row in found["methods"].values())
    yield f"| true reward (reverse KL) after round | {' | '.join(map(str, range(1, count + 1)))} |"
    yield "|---" * (count + 1) + "|"
    for name, row in found["methods"].items():
        if len(row["by_round"]) == count > 1:
            cells = [f"{one['reward']['mean']:.2f} ({one['reverse_kl']['mean']:.2f})"
                     for one in row["by_round"]]  # fmt: skip
            yield f"| {name} | {' | '.join(cells)} |"


def _cell(value: Mapping[str, float] | None) -> str:
    if value is None:
        return ""
    if "low" not in value:
        return f"{value['mean']:.2f}"
    return f"{value['mean']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
