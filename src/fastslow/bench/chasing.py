"""`fastslow bench chasing`: does chasing free its user from tuning the learning rate?

Fixed fast-slow settings against DPO at each of six learning rates, on streams whose tastes stay and
on streams whose tastes change. The score of a run is its mean loss on pairs it has not learned yet:
above the best DPO rate in hindsight on the same stream, and above a fixed policy that was trained
on the whole stream, which is its regret.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from fastslow.atomic_io import write_rows, write_text
from fastslow.bench.comparators import Comparators, comparators
from fastslow.bench.continual import Tell
from fastslow.bench.measure import measure_run
from fastslow.bench.races import as_markdown, results
from fastslow.bench.scenario import Scenario, world_scenario
from fastslow.bench.suite import gathered, kept, trained
from fastslow.config import DomainConfig, Recipe, load_recipe
from fastslow.streams.arrange import arranged
from fastslow.streams.worlds import World
from fastslow.streams.worlds.files import TEST_SEED
from fastslow.training.state.summary import versions

DOMAIN = "reviews"
PHASES = {"steady": 1, "drifting": 4}
"""Number of phases with different tastes in each kind of stream."""
RATES: Mapping[str, tuple[float, ...]] = {
    "adamw": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "rmsprop": (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "sgd": (1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0),
}
"""Learning rates of DPO for each optimiser, slowest first."""
FIXED = 4
"""Index of the fast module's rate in every fixed setting."""
COMPARED = 3
"""Index of the rate of the comparator policies, which define regret."""
RULE = {"slow_ratio": 0.3, "swap_every": 2, "loss_decay": 0.8}
CHASES: Mapping[str, Mapping[str, Any]] = {
    "chase": {**RULE, "alpha": 0.01},
    "chase-four-speeds": {**RULE, "alpha": 0.01, "speeds": 4},
    "chase-alpha-0.1": {**RULE, "alpha": 0.1},
    "chase-window-of-20": {"alpha": 0.1, "slow_ratio": 0.1, "swap_every": 20, "loss_decay": 0.0},
}
"""The fixed fast-slow settings; those without a chase term are computed from the DPO runs."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting to train."""

    name: str
    rate: float
    chase: Mapping[str, Any] | None
    """None for plain DPO."""


def settings_of(optimizer: str) -> tuple[Setting, ...]:
    """DPO at every rate, slowest first, and the fast-slow settings."""
    rates = RATES[optimizer]
    plain = [Setting(f"dpo-{rate:g}", rate, None) for rate in rates]
    return (*plain, *(Setting(name, rates[FIXED], chase) for name, chase in CHASES.items()))


def bench_chasing(
    out: Path, *, seeds: Sequence[int], pairs: int, optimizer: str, workers: int, on_progress: Tell
) -> dict[str, Any]:
    """Run every setting on every stream, and write and return the results."""
    settings = settings_of(optimizer)
    makers = [partial(streams_of, World(seed=seed), out, pairs) for seed in seeds]
    made = gathered(makers, workers=workers, progress=partial(on_progress, "making worlds"))
    scenarios = [scenario for of_world in made for scenario in of_world]
    calls = [
        partial(_record, scenario, setting, out, optimizer)
        for scenario in sorted(scenarios, key=lambda s: s.name)
        for setting in settings
    ]
    records = gathered(calls, workers=workers, progress=partial(on_progress, "running settings"))
    against = dict(
        gathered(
            [partial(_against, scenario, out, optimizer) for scenario in scenarios],
            workers=workers,
            progress=partial(on_progress, "training the comparators of regret"),
        )
    )
    rates, names = RATES[optimizer], [setting.name for setting in settings]
    results_json = {
        "setting": {
            "worlds": list(seeds),
            "pairs": pairs,
            "optimizer": optimizer,
            "rates": list(rates),
            "fixed_rate": rates[FIXED],
            "chases": {name: dict(chase) for name, chase in CHASES.items()},
        },
        "streams": {
            kind: results(
                [r for r in records if r["kind"] == kind], names, len(rates), FIXED, against
            )
            for kind in PHASES
        },
        "versions": versions(),
    }
    write_text(out / "results.json", json.dumps(results_json, indent=1) + "\n")
    write_text(out / "table.md", as_markdown(results_json))
    return results_json


def streams_of(
    world: World, out: Path, pairs: int, *, settings: Mapping[str, Any] | None = None
) -> list[Scenario]:
    """One domain of a world with steady and with changing tastes; the last tastes are measured.

    `settings` are those of a scenario whose base knows the domain; by default a base is made.
    """
    if settings is None:
        alone = replace(world, num_domains=1)
        scenario = world_scenario(alone, out / "scenarios" / f"world-{world.seed}", pairs=1)
        settings = scenario.settings
    scenarios = []
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
        judge = {"kind": "world", "file": str(folder / "world.json")}
        stream_settings = {**settings, "eval": {**settings["eval"], "judge": judge}}
        scenarios.append(Scenario(f"{kind}-{world.seed}", (domain,), stream_settings))
    return scenarios


def _against(scenario: Scenario, out: Path, optimizer: str) -> tuple[str, Comparators]:
    kind = scenario.name.partition("-")[0]
    policies = comparators(
        scenario,
        out / "comparators",
        segments=PHASES[kind],
        rate=RATES[optimizer][COMPARED],
        optimizer=optimizer,
    )
    return scenario.name, policies


def _record(scenario: Scenario, setting: Setting, out: Path, optimizer: str) -> dict[str, Any]:
    """The record of one setting on one stream; read from disk if it exists."""
    path = out / "records" / scenario.name / f"{setting.name}.json"
    return kept(path, partial(_run, scenario, setting, out, optimizer))


def race_recipe(scenario: Scenario, setting: Setting, run: Path, optimizer: str) -> Recipe:
    """The recipe of a setting on a stream, for a single pass over it, without a KL budget: a budget
    would also affect who may lead."""
    return load_recipe(
        {
            **scenario.settings,
            "output_dir": str(run),
            "chase": setting.chase,
            "budget": None,
            "data": {**scenario.settings["data"], "train": scenario.domains[0].train},
            "eval": {"num_prompts": 0},
            "train": {
                **scenario.settings["train"],
                "learning_rate": setting.rate,
                "schedule": "constant",
                "optimizer": optimizer,
            },
        }
    )


def _run(scenario: Scenario, setting: Setting, out: Path, optimizer: str) -> dict[str, Any]:
    run = out / "runs" / scenario.name / setting.name
    summary = trained(race_recipe(scenario, setting, run, optimizer))
    return {
        "kind": scenario.name.partition("-")[0],
        "scenario": scenario.name,
        "setting": setting.name,
        "losses": _step_losses(run),
        "loss": summary.prequential["loss"],
        "accuracy": summary.prequential["accuracy"],
        "swaps": summary.swaps,
        "points": measure_run(scenario, run),
    }


def _step_losses(run: Path) -> list[float]:
    """Mean loss of each step's pairs before they are learned, nats."""
    with (run / "events.jsonl").open(encoding="utf-8") as lines:
        events = [json.loads(line) for line in lines]
    return [event["loss"] for event in events if event["event"] == "step"]
