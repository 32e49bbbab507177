"""`fastslow demo`: domains that partly contradict each other, and a rate that nobody knew.

Ways to learn three domains in sequence have the same learning rates to choose from and are compared
at the same KL. Then chasing races against DPO at six rates on a stream whose tastes change.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from fastslow.atomic_io import write_text
from fastslow.bench.chasing import Setting, race_recipe, settings_of, streams_of
from fastslow.bench.continual import Tell
from fastslow.bench.measure import measure_method
from fastslow.bench.methods import METHODS, Method
from fastslow.bench.scenario import Scenario, world_scenario
from fastslow.bench.suite import finished, gathered, kept, trained
from fastslow.bench.table import BUDGET, best_rates, ended_at, gain_at_end, gain_at_kl
from fastslow.bench.tiny_base import pretrain_base
from fastslow.streams.worlds import World
from fastslow.training.state.event_log import Listener, progress_of
from fastslow.training.state.summary import ContinualSummary

PAIRS = 768
"""Training pairs of each domain."""
HELD_OUT = 64
"""Held-out pairs of each domain."""
RACED = 2048
"""Pairs of the stream whose tastes change."""
RATES = (1e-3, 3e-3)
STRENGTHS = (0.5, 1.0, 2.0)
SEQUENTIAL, DISTILLED = "sequential", "distilled"
WAYS: Mapping[str, Method] = {
    SEQUENTIAL: METHODS["sequential-previous"],
    "sum": Method("fresh-distilled", "learned"),
    DISTILLED: METHODS["distilled"],
    "routed": Method("fresh-distilled", "routed"),
}
"""Ways to learn the domains; those after the first share their modules."""
CHASE = "chase"
RESULTS = "demo.json"


@dataclass(frozen=True, slots=True)
class Way:
    """The result of one way to learn the domains, at the better of the rates."""

    rate: float
    gain: float
    """Mean reward over the base within BUDGET nats of reverse KL."""
    ended: float
    """The same of the final policy, with its KL."""
    reverse_kl: float
    domains: Mapping[str, float]
    """Reward over the base of the final policy, on each domain."""
    summary: ContinualSummary
    """Summary of the run that it is made from."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The results of the demo."""

    world: World
    ways: Mapping[str, Way]
    samples: Sequence[Mapping[str, Any]]
    """For each domain a prompt, with the answers and rewards of the base and of both runs."""
    race: Mapping[str, float]
    """Test-then-train loss above that of DPO at its best rate, as a share of it."""
    folders: Mapping[str, Path]
    """The run of each of SEQUENTIAL and DISTILLED at its best rate."""


def run_demo(
    to: Path,
    *,
    seed: int,
    workers: int,
    begin: Callable[[str], None],
    listener: Listener,
    progress: Tell,
) -> Shown:
    """Make a world and its base, learn its domains in all ways, race, and evaluate.

    `begin` is called with a line for each part. Finished parts are not repeated.
    """
    to = Path(os.path.abspath(to))  # The same demo from any working directory.
    world = World(seed=seed)
    begin("a tiny base model, pretrained on the text of this world")
    pretrain_base(world, progress=progress_of(listener, "base"))
    made = world_scenario(world, to / "world", pairs=PAIRS, held_out=HELD_OUT)
    scenario = replace(made, strengths=STRENGTHS)
    *_, drifting = streams_of(world, to / "race", RACED, settings=scenario.settings)
    rivals = [rival for rival in settings_of("adamw") if rival.chase is None or rival.name == CHASE]
    # The longest first, so that no worker waits long for another at the end.
    trainings = sorted({way.training for way in WAYS.values()}, key=_longest_first)
    calls = [partial(_records, scenario, t, rate, to) for t in trainings for rate in RATES]
    races = [partial(_loss, drifting, rival, to) for rival in rivals]
    begin(
        f"{', '.join(world.domains)}, {PAIRS} pairs each, in two ways at {len(RATES)} rates; and a "
        f"stream of {RACED:,} pairs whose tastes change, chasing against DPO at six rates"
    )
    results = gathered(
        [*calls, *races],
        workers=workers,
        progress=partial(progress, "learning"),
        on_steps=lambda steps: progress("training steps", steps, None),
    )
    ways = _ways([record for part in results if isinstance(part, list) for record in part], to)
    losses: dict[str, float] = dict(part for part in results if isinstance(part, tuple))
    folders = {
        name: _folder(to, WAYS[name].training, ways[name].rate) for name in (SEQUENTIAL, DISTILLED)
    }
    shown = Shown(world, ways, _samples(folders), _above_best(losses), folders)
    write_text(to / RESULTS, json.dumps(_results(shown, to), indent=1) + "\n")
    return shown


def _results(shown: Shown, to: Path) -> dict[str, Any]:
    """What the report shows besides the runs."""
    facts = ("rate", "gain", "ended", "reverse_kl", "domains")
    return {
        "ways": {
            name: {key: getattr(way, key) for key in facts} for name, way in shown.ways.items()
        },
        "race": shown.race,
        "runs": {name: str(folder.relative_to(to)) for name, folder in shown.folders.items()},
    }


def _longest_first(training: str) -> int:
    """A sort key: trainings that more ways share take longer."""
    return -sum(way.training == training for way in WAYS.values())


def _folder(to: Path, training: str, rate: float) -> Path:
    return to / f"{training}-{rate:g}"


def _records(scenario: Scenario, training: str, rate: float, to: Path) -> list[dict[str, Any]]:
    """Train in one way at one rate, and measure all policies made from it."""
    run = _folder(to, training, rate)
    finished(scenario.recipe(training, rate, run, pairs=PAIRS, measure=True))
    return [
        kept(
            to / "records" / f"{name}-{rate:g}.json",
            partial(_measured, scenario, name, way, rate, run),
        )
        for name, way in WAYS.items()
        if way.training == training
    ]


def _measured(scenario: Scenario, name: str, way: Method, rate: float, run: Path) -> dict[str, Any]:
    return {"method": name, "rate": rate, **measure_method(scenario, way, run)}


def _ways(records: Sequence[dict[str, Any]], to: Path) -> dict[str, Way]:
    best = best_rates(records, "reward")
    ways = {}
    for name, way in WAYS.items():
        rate = best[name]
        (record,) = (r for r in records if (r["method"], r["rate"]) == (name, rate))
        summary = ContinualSummary.read(_folder(to, way.training, rate) / "summary.json")
        base, ended = record["points"][0]["domains"], ended_at(record)["domains"]
        ways[name] = Way(
            rate,
            gain_at_kl(record, "reward", BUDGET),
            gain_at_end(record, "reward"),
            fmean(domain["reverse_kl"] for domain in ended),
            {
                domain: final["reward"] - bare["reward"]
                for domain, final, bare in zip(summary.measured, ended, base, strict=True)
            },
            summary,
        )
    return ways


def _loss(stream: Scenario, rival: Setting, to: Path) -> tuple[str, float]:
    run = to / "race" / "runs" / rival.name
    loss: float = trained(race_recipe(stream, rival, run, "adamw")).prequential["loss"]
    return rival.name, loss


def _above_best(losses: Mapping[str, float]) -> dict[str, float]:
    best = min(loss for name, loss in losses.items() if name != CHASE)
    return {name: loss / best - 1 for name, loss in sorted(losses.items())}


def _samples(folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """For each domain the first prompt that all answer differently, else the first prompt."""
    merged: dict[str, dict[str, Any]] = {}
    for name, folder in folders.items():
        for sample in json.loads((folder / "samples.json").read_text(encoding="utf-8")):
            entry = merged.setdefault(sample["prompt"], {**sample, "answers": {}, "rewards": {}})
            for kind in ("answers", "rewards"):
                for label, value in sample[kind].items():
                    entry[kind][label if label == "base" else name] = value
    shown: dict[str, dict[str, Any]] = {}
    for sample in sorted(merged.values(), key=lambda one: -len(set(one["answers"].values()))):
        shown.setdefault(sample["domain"], sample)
    return list(shown.values())
