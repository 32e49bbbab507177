"""`fastslow bench continual`: which method retains most of several domains."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from fastslow.atomic_io import write_text
from fastslow.bench.methods import METHODS
from fastslow.bench.scenario import Scenario, world_scenario
from fastslow.bench.suite import Task, gathered, plan, read_records, run_tasks
from fastslow.bench.table import BUDGET, BUDGETS, best_rates, differences, results, shown
from fastslow.streams.worlds import World
from fastslow.training.state.summary import versions

TUNING_SEEDS = (1000, 1001)
"""Worlds for choosing rates; none of them is reported."""
COMPARED = (
    ("distilled", "cofs"),
    ("distilled", "joint"),
    ("distilled", "sequential-base"),
    ("distilled", "sequential-previous"),
    ("distilled", "replay"),
    ("distilled", "ewc"),
    ("distilled", "l2-sp"),
    ("distilled", "cofs-routed"),
    ("cofs", "joint"),
    ("cofs", "sequential-base"),
    ("cofs", "sequential-previous"),
    ("cofs", "cofs-uniform"),
    ("cofs", "cofs-without-chase"),
    ("cofs-routed", "cofs"),
)


class Tell(Protocol):
    """A progress callback."""

    def __call__(self, task: str, done: int, total: int | None) -> None: ...


def bench_worlds(
    out: Path,
    *,
    seeds: Sequence[int],
    rates: Sequence[float],
    pairs: int,
    conflict: float,
    num_domains: int,
    noise: float,
    methods: Sequence[str],
    workers: int,
    on_progress: Tell,
) -> dict[str, Any]:
    """Tune every method on the tuning worlds, measure it on the others, write the results.

    Each method has the same rates to choose from and the same steps, and chooses by its gain within
    a reverse KL of BUDGET nats; a single rate needs no tuning. Returns what `results.json` holds.
    """
    world = partial(World, conflict=conflict, num_domains=num_domains)
    tuned = dict.fromkeys(methods, rates[0])
    if len(rates) > 1:
        tuning = _prepare(out, [world(s) for s in TUNING_SEEDS], pairs, noise, workers, on_progress)
        tasks = plan(tuning, dict.fromkeys(methods, rates), out, pairs=pairs, retention=False)
        run_tasks(tasks, workers=workers, progress=partial(on_progress, "tuning"))
        tuned = best_rates(read_records(tasks), "reward")

    reported = _prepare(out, [world(s) for s in seeds], pairs, noise, workers, on_progress)
    chosen = {method: (rate,) for method, rate in tuned.items()}
    tasks = plan(reported, chosen, out, pairs=pairs, retention=True)
    run_tasks(tasks, workers=workers, progress=partial(on_progress, "measuring methods"))
    setting = {
        "worlds": list(seeds),
        "tuning_worlds": list(TUNING_SEEDS) if len(rates) > 1 else [],
        "rates": list(rates),
        "pairs": pairs,
        "conflict": conflict,
        "num_domains": num_domains,
        "noise": noise,
    }
    return _write(out, tasks, "reward", setting, tuned)


def bench_files(
    out: Path,
    scenarios: Sequence[Scenario],
    *,
    rate: float,
    pairs: int,
    methods: Sequence[str],
    workers: int,
    on_progress: Tell,
) -> dict[str, Any]:
    """Measure every method at one rate on files of real pairs; held-out accuracy is the score."""
    tasks = plan(scenarios, dict.fromkeys(methods, (rate,)), out, pairs=pairs, retention=False)
    run_tasks(tasks, workers=workers, progress=partial(on_progress, "measuring methods"))
    setting = {
        "domains": [domain.name for domain in scenarios[0].domains],
        "seeds": [scenario.settings["seed"] for scenario in scenarios],
        "rates": [rate],
        "pairs": pairs,
    }
    return _write(out, tasks, "accuracy", setting, dict.fromkeys(methods, rate))


def _prepare(
    out: Path, worlds: Sequence[World], pairs: int, noise: float, workers: int, on_progress: Tell
) -> list[Scenario]:
    calls = [
        partial(world_scenario, w, out / "scenarios" / f"world-{w.seed}", pairs=pairs, noise=noise)
        for w in worlds
    ]
    scenarios = gathered(calls, workers=workers, progress=partial(on_progress, "making worlds"))
    return sorted(scenarios, key=lambda scenario: scenario.name)


def _write(
    out: Path,
    tasks: Sequence[Task],
    metric: str,
    setting: Mapping[str, Any],
    tuned: Mapping[str, float],
) -> dict[str, Any]:
    records = read_records(tasks)
    present = {record["method"] for record in records}
    pairs = [pair for pair in COMPARED if set(pair) <= present]
    results_json = {
        "metric": metric,
        "setting": dict(setting),
        "rates": dict(tuned),
        "methods": results(records, metric),
        "differences": differences(records, metric, pairs),
        "versions": versions(),
    }
    write_text(out / "results.json", json.dumps(results_json, indent=1) + "\n")
    write_text(out / "table.md", as_markdown(results_json))
    return results_json


def as_markdown(found: Mapping[str, Any]) -> str:
    """The results as Markdown tables.

    KL, tokens and log-ratios to the base (nats per response) are those at the end of training. In
    brackets are 95 % intervals over the scenarios, if there are several.
    """
    head = ["method", "rate"]
    head += [f"gain at {budget:g} nats" for budget in BUDGETS]
    head += [f"kept of the oracle at {BUDGET:g}", "gain at the end", "KL", "tokens"]
    head += ["chosen", "rejected", "forgetting"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    order = sorted(
        found["methods"], key=lambda method: -found["methods"][method][f"gain@{BUDGET:g}"]["mean"]
    )
    for method in order:
        row = found["methods"][method]
        cells = [method, f"{found['rates'][method]:g}"]
        cells += [shown(row[f"gain@{budget:g}"]) for budget in BUDGETS]
        kept = row.get(f"kept@{BUDGET:g}")
        cells += [shown(kept, form=".1%") if kept else ""]
        cells += [shown(row["gain"]), f"{row['reverse_kl']:.2f}", f"{row['mean_length']:.1f}"]
        cells += [f"{row[f'{side}_log_ratio']:+.2f}" for side in ("chosen", "rejected")]
        cells += [f"{row['retention']['forgetting']:.3f}" if "retention" in row else ""]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"| difference | {found['metric']} |", "|---|---|"]
    lines += [f"| {name} | {shown(value)} |" for name, value in found["differences"].items()]
    lines += [""] + [f"- `{method}`: {METHODS[method].says}" for method in order]
    return "\n".join(lines) + "\n"
