"""`fastslow bench objectives`: every objective on the same answers, at the same KL.

Each objective has its own defaults and a learning rate chosen on worlds that are not reported. All
take the same number of steps and of responses per step, for every kind of label.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from fastslow.atomic_io import write_rows, write_text
from fastslow.bench.continual import TUNING_SEEDS, Tell
from fastslow.bench.measure import measure_run
from fastslow.bench.scenario import Scenario, world_scenario
from fastslow.bench.suite import gathered, kept, trained
from fastslow.bench.table import BUDGETS, best_rates, gain_at_kl, interval, shown
from fastslow.config import DomainConfig, ObjectiveConfig, load_recipe
from fastslow.evaluation import at_kl
from fastslow.objectives import Objective, make_objective
from fastslow.records import Pair
from fastslow.streams import row_of
from fastslow.streams.labels import as_kind, examples_of_row
from fastslow.streams.worlds import World
from fastslow.streams.worlds.files import TEST_SEED
from fastslow.training.data.requirements import missing_fields
from fastslow.training.state.summary import versions

DOMAIN = "reviews"
LIST = 4
"""Answers in a ranked list."""
HELD_OUT = 200
"""Pairs that accuracy is measured on."""
MATCHED = 1.0
"""Reverse KL at which the table compares objectives, nats."""
GAINS = (MATCHED, 2.0)
"""Budgets whose gains the table shows."""
SHOWN = (
    "reverse_kl",
    "accuracy",
    "margin",
    "chosen_log_ratio",
    "rejected_log_ratio",
    "mean_length",
)


def bench_worlds(
    out: Path,
    *,
    seeds: Sequence[int],
    rates: Sequence[float],
    pairs: int,
    names: Sequence[str],
    workers: int,
    on_progress: Tell,
) -> dict[str, Any]:
    """Tune every objective on the tuning worlds, measure it on the others, write the results.

    Returns what `results.json` holds.
    """
    calls = [
        partial(one_domain, World(seed=seed, num_domains=1), out, pairs)
        for seed in (*TUNING_SEEDS, *seeds)
    ]
    scenarios = gathered(calls, workers=workers, progress=partial(on_progress, "making worlds"))
    made = {scenario.name: scenario for scenario in scenarios}
    tuning = [made[f"world-{seed}"] for seed in TUNING_SEEDS]
    reported = [made[f"world-{seed}"] for seed in seeds]
    run = partial(_records, out=out, steps=_steps(pairs), workers=workers)
    tried = run(tuning, dict.fromkeys(names, rates), on_progress=partial(on_progress, "tuning"))
    tuned = best_rates(tried, "reward")
    chosen = {name: (rate,) for name, rate in tuned.items()}
    records = run(reported, chosen, on_progress=partial(on_progress, "measuring objectives"))
    setting = {"worlds": list(seeds), "tuning_worlds": list(TUNING_SEEDS), "rates": list(rates)}
    return _write(out, records, "reward", {**setting, "pairs": pairs}, tuned)


def bench_files(
    out: Path,
    scenarios: Sequence[Scenario],
    *,
    rate: float,
    pairs: int,
    names: Sequence[str],
    workers: int,
    on_progress: Tell,
) -> dict[str, Any]:
    """Measure every objective at one rate on files of real pairs, by held-out accuracy."""
    records = _records(
        scenarios,
        dict.fromkeys(names, (rate,)),
        out=out,
        steps=_steps(pairs),
        workers=workers,
        on_progress=partial(on_progress, "measuring objectives"),
    )
    setting = {
        "domain": scenarios[0].domains[0].name,
        "seeds": [scenario.settings["seed"] for scenario in scenarios],
        "pairs": pairs,
    }
    return _write(out, records, "accuracy", setting, dict.fromkeys(names, rate))


def asked(name: str) -> tuple[ObjectiveConfig, Objective]:
    """A recipe's section and the objective for a name with settings, such as `discopop tau=0.2`.

    Raises ConfigError for anything else.
    """
    words = name.split()
    settings = [f"objective.{word}" for word in words if "=" in word]
    bare = " ".join(word for word in words if "=" not in word)
    section = load_recipe({"model": "", "objective": {"name": bare}}, settings).objective
    return section, make_objective(section.name, **section.settings)


def lacking(objectives: Mapping[str, Objective], pair: Pair) -> str | None:
    """What an objective, by name, needs and the pair lacks; None if nothing."""
    reasons = (
        f"{name}: {what}"
        for name, objective in objectives.items()
        for example in as_kind(pair, objective.takes)
        if (what := missing_fields(example, objective))
    )
    return next(reasons, None)


def _steps(pairs: int) -> int:
    return -(-pairs // 16)


def one_domain(world: World, out: Path, pairs: int) -> Scenario:
    """A scenario of one domain, with its answers both in pairs and in longer lists."""
    folder = out / "scenarios" / f"world-{world.seed}"
    plain = world_scenario(world, folder, pairs=1)
    train, test = folder / "pairs.jsonl", folder / "test.jsonl"
    write_rows(train, islice(pairs_with_scores(world), pairs))
    write_rows(test, islice(pairs_with_scores(world, seed=TEST_SEED, held_out=True), HELD_OUT))
    lists = world.lists(DOMAIN, seed=0, size=LIST)
    write_rows(folder / "lists.jsonl", islice(lists, pairs * 2 // LIST))
    domain = DomainConfig(name=DOMAIN, train=str(train), eval=str(test))
    return replace(plain, domains=(domain,))


def pairs_with_scores(
    world: World, *, seed: int = 0, held_out: bool = False
) -> Iterator[dict[str, Any]]:
    """Lists of two as rows of pairs with the scores that decided them."""
    for number, row in enumerate(world.lists(DOMAIN, seed=seed, size=2, held_out=held_out)):
        yield from map(row_of, examples_of_row(row, source=f"{DOMAIN}:{number}"))


def _records(
    scenarios: Sequence[Scenario],
    rates: Mapping[str, Sequence[float]],
    *,
    out: Path,
    steps: int,
    workers: int,
    on_progress: Any,
) -> list[dict[str, Any]]:
    calls = [
        partial(_record, scenario, name, rate, out, steps)
        for scenario in scenarios
        for name, method_rates in rates.items()
        for rate in method_rates
    ]
    return gathered(calls, workers=workers, progress=on_progress)


def _record(scenario: Scenario, name: str, rate: float, out: Path, steps: int) -> dict[str, Any]:
    """The record of one objective in one scenario; read from disk if it exists."""
    label = f"{re.sub(r'[^a-z0-9_.=+]+', '-', name)}-{rate:g}"
    run = out / "runs" / scenario.name / label
    path = out / "records" / scenario.name / f"{label}.json"
    return kept(path, partial(_run, scenario, name, rate, run, steps))


def _run(scenario: Scenario, name: str, rate: float, run: Path, steps: int) -> dict[str, Any]:
    section, objective = asked(name)
    shared = scenario.settings["train"]
    lists = Path(scenario.domains[0].train_sources[0]).with_name("lists.jsonl")
    in_lists = objective.takes == "rankings" and lists.exists()
    # A pair is two ratings, a list of four is two pairs: the same responses in every step.
    per_pair = {"ratings": 2.0, "rankings": 2 / LIST if in_lists else 1.0}.get(objective.takes, 1.0)
    train = {**shared, "batch_size": int(16 * per_pair), "learning_rate": rate, "max_steps": steps}
    if objective.coupled:
        train["micro_batch_size"] = None
    recipe = load_recipe(
        {
            **scenario.settings,
            "output_dir": str(run),
            "chase": None,
            "objective": section.model_dump(),
            "data": {
                **scenario.settings["data"],
                "train": str(lists) if in_lists else scenario.domains[0].train,
            },
            "eval": {"num_prompts": 0},
            "train": train,
        }
    )
    summary = trained(recipe)
    return {
        "scenario": scenario.name,
        "method": name,
        "rate": rate,
        "learns_from": objective.takes,
        "prequential": summary.prequential,
        "points": measure_run(scenario, run),
    }


def _write(
    out: Path,
    records: Sequence[Mapping[str, Any]],
    metric: str,
    setting: Mapping[str, Any],
    rates: Mapping[str, float],
) -> dict[str, Any]:
    results = {
        "metric": metric,
        "setting": dict(setting),
        "objectives": {
            name: {"rate": rate, **_row([r for r in records if r["method"] == name], metric)}
            for name, rate in rates.items()
        },
        "versions": versions(),
    }
    write_text(out / "results.json", json.dumps(results, indent=1) + "\n")
    write_text(out / "table.md", as_markdown(results))
    return results


def _row(records: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """Results of one objective: gains within each budget, all values at MATCHED nats and at the end
    of training."""
    matched = [at_kl(_values(record), MATCHED) for record in records]
    ended = [next(p for p in _values(record) if p["strength"] == 1.0) for record in records]
    return {
        "learns_from": records[0]["learns_from"],
        **{
            f"gain@{budget:g}": interval([gain_at_kl(r, metric, budget) for r in records])
            for budget in BUDGETS
        },
        "matched": {key: fmean(values[key] for values in matched) for key in SHOWN},
        "ended": {key: fmean(values[key] for values in ended) for key in SHOWN},
    }


def _values(record: Mapping[str, Any]) -> list[dict[str, float]]:
    """The domain's values at each strength, rising; the KL of the base itself is exactly 0."""
    points = [
        {"strength": point["strength"], **{key: point["domains"][0][key] for key in SHOWN}}
        for point in record["points"]
    ]
    return [points[0] | {"reverse_kl": 0.0}, *points[1:]]


def as_markdown(found: Mapping[str, Any]) -> str:
    """The results as a Markdown table, the highest gain within MATCHED nats first.

    Metrics are shown at MATCHED nats, or for a policy that never moved so far, at its largest KL,
    which is shown next to its accuracy.
    """
    head = ["objective", "learns from", "rate"]
    head += [f"{found['metric']} gained at {budget:g} nats" for budget in GAINS]
    head += ["accuracy", "margin", "chosen", "rejected", "tokens", "KL at the end"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    order = sorted(found["objectives"].items(), key=lambda o: -o[1][f"gain@{MATCHED:g}"]["mean"])
    for name, row in order:
        at = row["matched"]
        cells = [name, row["learns_from"], f"{row['rate']:g}"]
        cells += [shown(row[f"gain@{budget:g}"]) for budget in GAINS]
        far = "" if at["reverse_kl"] > 0.99 * MATCHED else f" ({at['reverse_kl']:.2f} nats)"
        cells += [f"{at['accuracy']:.3f}{far}", f"{at['margin']:+.2f}"]
        cells += [f"{at[f'{side}_log_ratio']:+.2f}" for side in ("chosen", "rejected")]
        cells += [f"{at['mean_length']:.1f}", f"{row['ended']['reverse_kl']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
