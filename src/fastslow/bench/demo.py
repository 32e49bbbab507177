"""`fastslow demo`: three domains that partly contradict each other, learned in two ways."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.adapters import Bank
from fastslow.bench.scenario import world_scenario
from fastslow.bench.tiny_base import world_base
from fastslow.config import Recipe
from fastslow.errors import StateError
from fastslow.streams.worlds import World
from fastslow.training import train
from fastslow.training.continual.combination import combine_entries
from fastslow.training.continual.measurement import Measuring
from fastslow.training.state.event_log import Listener
from fastslow.training.state.summary import ContinualSummary

PAIRS = 768
RUNS = {"sequential": ("sequential-base", 1e-3), "fastslow": ("fresh-ofs", 3e-3)}
"""Folder of each run, the training of the benchmark that it is, and the rate tuned for it there."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demo has to show."""

    summaries: Mapping[str, ContinualSummary]
    """Of each run, by its folder's name."""
    routed: list[dict[str, Any]]
    """Measurement on each domain of the fast-slow modules with one chosen by the prompt."""
    samples: list[dict[str, Any]]
    """Prompts with the answers and rewards of the base and of both runs."""


def run_demo(to: Path, *, seed: int, begin: Callable[[str], None], listener: Listener) -> Shown:
    """Make the world and its base, learn its domains in both ways, and measure.

    `begin` is told of each part. What is there already is not done again.
    """
    world = World(seed=seed)
    begin("training a tiny base model from scratch on how people in this world speak")
    world_base(world, progress=lambda done, total: listener(_progress("base", done, total)))
    scenario = world_scenario(world, to / "world", pairs=PAIRS, held_out=96)
    summaries, recipes = {}, {}
    for name, (training, rate) in RUNS.items():
        begin(f"{name}: {', '.join(world.domains)}, {PAIRS} pairs each")
        recipe = scenario.recipe(training, rate, to / name, pairs=PAIRS, measure=True)
        summaries[name] = _finished(recipe, listener)
        recipes[name] = recipe
    begin("fastslow, one module chosen by the prompt")
    routed = _routed(recipes["fastslow"], to, listener)
    return Shown(summaries, routed, _samples(recipes, to))


def _finished(recipe: Recipe, listener: Listener) -> ContinualSummary:
    summary = train(recipe, listener=listener)
    if not isinstance(summary, ContinualSummary):
        raise StateError("stopped; the same command goes on from here")
    return summary


def _routed(recipe: Recipe, to: Path, listener: Listener) -> list[dict[str, Any]]:
    folder = to / "routed"
    if not folder.exists():
        entries = Bank(to / "fastslow" / "bank").entries()
        combine_entries(entries, recipe, folder, kind="routed", progress=lambda d, t: None)
    measuring = Measuring(recipe, listener)
    with measuring.of(folder) as (policies, policy):
        return measuring.measure(policies, policy, label=policy)


def _samples(recipes: Mapping[str, Recipe], to: Path) -> list[dict[str, Any]]:
    """The samples of both runs side by side: same prompts, same seed."""
    merged: dict[str, dict[str, Any]] = {}
    for name in recipes:
        for sample in json.loads((to / name / "samples.json").read_text(encoding="utf-8")):
            own = merged.setdefault(sample["prompt"], {**sample, "answers": {}, "rewards": {}})
            for kind in ("answers", "rewards"):
                for label, value in sample[kind].items():
                    own[kind][label if label == "base" else name] = value
    return list(merged.values())


def _progress(task: str, done: int, total: int) -> dict[str, Any]:
    return {"event": "progress", "task": task, "done": done, "total": total}
