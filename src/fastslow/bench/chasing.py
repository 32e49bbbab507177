"""`fastslow bench chasing`: does chasing free its user from tuning the learning rate?

One fixed setting of fast-slow chasing against DPO at each of six learning rates, on streams whose
tastes stay and on streams whose tastes change. The score of a run is its mean loss on pairs it has
not learned yet; its regret is that above the best DPO rate in hindsight, on the same stream.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from fastslow.bench.continual import Tell
from fastslow.bench.measure import measure_run
from fastslow.bench.scenario import Scenario, world_scenario
from fastslow.bench.suite import in_parallel
from fastslow.bench.table import BUDGETS, gain_at_end, gain_at_kl, interval
from fastslow.config import DomainConfig, load_recipe
from fastslow.durable import write_rows, write_text
from fastslow.errors import StateError
from fastslow.evaluation import relative_regret
from fastslow.streams.arrange import arranged
from fastslow.streams.worlds import World
from fastslow.streams.worlds.files import TEST_SEED
from fastslow.training.summary import RunSummary, versions

DOMAIN = "reviews"
PHASES = {"steady": 1, "drifting": 4}
"""How often the tastes of each kind of stream are new."""
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
FIXED_RATE = 1e-2
"""Rate of the fast module in the one setting of the chase; the slow one has a tenth of it."""
CHASES: Mapping[str, float] = {"chase": 0.1, "switching-only": 0.0}
"""alpha of each fast-slow setting; 0 only lets the better of two speeds lead."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One contestant."""

    name: str
    rate: float
    alpha: float | None
    """None for plain DPO."""


SETTINGS = (
    *(Setting(f"dpo-{rate:g}", rate, None) for rate in RATES),
    *(Setting(name, FIXED_RATE, alpha) for name, alpha in CHASES.items()),
)


def bench_chasing(
    out: Path, *, seeds: Sequence[int], pairs: int, optimizer: str, workers: int, tell: Tell
) -> dict[str, Any]:
    """Run every setting on every stream, write `results.json` and `table.md`, return the former."""
    makers = [partial(_streams, World(seed=seed), out, pairs) for seed in seeds]
    scenarios: list[Scenario] = []
    tell("making worlds", 0, len(makers))
    for made in in_parallel(makers, workers=workers):
        scenarios += made
        tell("making worlds", len(scenarios) // len(PHASES), len(makers))
    calls = [
        partial(_record, scenario, setting, out, optimizer)
        for scenario in sorted(scenarios, key=lambda s: s.name)
        for setting in SETTINGS
    ]
    records = []
    tell("running settings", 0, len(calls))
    for record in in_parallel(calls, workers=workers):
        records.append(record)
        tell("running settings", len(records), len(calls))
    found = {
        "setting": {"worlds": list(seeds), "pairs": pairs, "optimizer": optimizer},
        "streams": {kind: _results(records, kind) for kind in PHASES},
        "versions": versions(),
    }
    write_text(out / "results.json", json.dumps(found, indent=1) + "\n")
    write_text(out / "table.md", as_markdown(found))
    return found


def _streams(world: World, out: Path, pairs: int) -> list[Scenario]:
    """One domain of a world with steady and with changing tastes; the last ones are measured."""
    plain = world_scenario(replace(world, num_domains=1), out / "scenarios" / f"world-{world.seed}",
                           pairs=1)  # fmt: skip
    found = []
    for kind, count in PHASES.items():
        phases = [replace(world, num_domains=1, phase=phase) for phase in range(count)]
        folder = out / "scenarios" / f"world-{world.seed}" / kind
        folder.mkdir(parents=True, exist_ok=True)
        rows = arranged(
            [phase.pairs(DOMAIN, seed=phase.phase) for phase in phases], each=pairs // count
        )
        write_rows(folder / "train.jsonl", rows)
        tests = phases[-1].pairs(DOMAIN, seed=TEST_SEED, held_out=True)
        write_rows(folder / "test.jsonl", islice(tests, 48))
        phases[-1].save(folder / "world.json")
        domain = DomainConfig(
            name=DOMAIN, train=str(folder / "train.jsonl"), eval=str(folder / "test.jsonl")
        )
        measured = {**plain.settings["eval"], "world": str(folder / "world.json")}
        settings = {**plain.settings, "eval": measured}
        found.append(Scenario(f"{kind}-{world.seed}", (domain,), settings))
    return found


def _record(scenario: Scenario, setting: Setting, out: Path, optimizer: str) -> dict[str, Any]:
    """What one setting did on one stream; read from disk if it is there."""
    from fastslow.training import train

    path = out / "records" / scenario.name / f"{setting.name}.json"
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    run = out / "runs" / scenario.name / setting.name
    chase = None if setting.alpha is None else {"alpha": setting.alpha, "slow_ratio": 0.1}
    recipe = load_recipe(
        {
            **scenario.settings,
            "output_dir": str(run),
            "chase": chase,
            "data": {**scenario.settings["data"], "train": scenario.domains[0].train},
            "eval": {"samples": 0},
            "train": {
                **scenario.settings["train"],
                "learning_rate": setting.rate,
                "schedule": "constant",
                "optimizer": optimizer,
            },
        }
    )
    summary = train(recipe)
    if not isinstance(summary, RunSummary):
        raise StateError(f"the training in {run} was stopped by a signal")
    record = {
        "scenario": scenario.name,
        "setting": setting.name,
        "loss": summary.prequential["loss"],
        "accuracy": summary.prequential["accuracy"],
        "swaps": summary.swaps,
        "points": measure_run(scenario, run),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=1) + "\n")
    return record


def _results(records: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any]:
    own = [record for record in records if record["scenario"].startswith(f"{kind}-")]
    # In the order of SETTINGS: records come as they are finished.
    by_setting = {
        setting.name: {r["scenario"]: r for r in own if r["setting"] == setting.name}
        for setting in SETTINGS
    }
    rates = [setting.name for setting in SETTINGS if setting.alpha is None]
    best = {
        scenario: min(by_setting[rate][scenario]["loss"] for rate in rates)
        for scenario in by_setting[rates[0]]
    }
    return {
        setting: {
            "loss": interval([record["loss"] for record in found.values()]),
            "regret": interval(
                [
                    relative_regret([record["loss"]], [best[scenario]])
                    for scenario, record in found.items()
                ]
            ),
            "accuracy": fmean(record["accuracy"] for record in found.values()),
            "swaps": fmean(record["swaps"] for record in found.values()),
            "gain": interval([gain_at_end(record, "reward") for record in found.values()]),
            **{
                f"gain@{budget:g}": interval(
                    [gain_at_kl(record, "reward", budget) for record in found.values()]
                )
                for budget in BUDGETS
            },
        }
        for setting, found in by_setting.items()
    }


def as_markdown(found: Mapping[str, Any]) -> str:
    """The results as tables to read; regret is above the best rate of each stream in hindsight."""
    lines = []
    for kind, rows in found["streams"].items():
        lines += [f"### {kind}", "", "| setting | loss before learning | regret | reward gained |"]
        lines[-1] += " ".join(f" at {budget:g} nats |" for budget in BUDGETS) + " swaps |"
        lines += ["|" + "---|" * (5 + len(BUDGETS))]
        for setting, row in rows.items():
            regret = (f"{row['regret'][key]:+.1%}" for key in ("mean", "low", "high"))
            cells = [setting, f"{row['loss']['mean']:.4f}", "{} ({} to {})".format(*regret)]
            cells += [f"{row['gain']['mean']:+.2f}"]
            cells += [f"{row[f'gain@{budget:g}']['mean']:+.2f}" for budget in BUDGETS]
            lines.append("| " + " | ".join([*cells, f"{row['swaps']:.1f}"]) + " |")
        lines.append("")
    return "\n".join(lines)
