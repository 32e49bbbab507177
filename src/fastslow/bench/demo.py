"""`fastslow demo`: three domains that partly contradict each other, learned in two ways."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.adapters import Bank
from fastslow.atomic_io import new_folder
from fastslow.bench.scenario import world_scenario
from fastslow.bench.tiny_base import pretrain_base
from fastslow.config import Recipe
from fastslow.errors import StateError
from fastslow.streams.worlds import World
from fastslow.training import train
from fastslow.training.continual.combination import write_combination
from fastslow.training.continual.measurement import DomainEvaluator
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.policies.loading import SharedBase
from fastslow.training.state.event_log import Listener, progress_of, unwatched
from fastslow.training.state.summary import ContinualSummary

PAIRS = 768
RUNS = {"sequential": ("sequential-base", 1e-3), "fastslow": ("fresh-distilled", 3e-3)}
"""Folder of each run, the training of the benchmark that it is, and the rate tuned for it there."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The results of the demo."""

    summaries: Mapping[str, ContinualSummary]
    """By the name of the run folder."""
    routed: list[dict[str, Any]]
    """Evaluation of the fast-slow modules on each domain, with one module chosen per prompt."""
    samples: list[dict[str, Any]]
    """Prompts with the answers and rewards of the base and of both runs."""


def run_demo(to: Path, *, seed: int, begin: Callable[[str], None], listener: Listener) -> Shown:
    """Make the world and its base, train on its domains with both methods, and evaluate.

    `begin` is called with a line for each part. Finished parts are not repeated.
    """
    world = World(seed=seed)
    begin("pretraining a tiny base model on the text of this world")
    pretrain_base(world, progress=progress_of(listener, "base"))
    scenario = world_scenario(world, to / "world", pairs=PAIRS, held_out=96)
    summaries, recipes = {}, {}
    for name, (training, rate) in RUNS.items():
        begin(f"{name}: {', '.join(world.domains)}, {PAIRS} pairs each")
        recipe = scenario.recipe(training, rate, to / name, pairs=PAIRS, measure=True)
        summaries[name] = _finished(recipe, listener)
        recipes[name] = recipe
    begin("fastslow, one module per prompt (routed)")
    routed = _routed(recipes["fastslow"], to, listener)
    return Shown(summaries, routed, _samples(recipes, to))


def _finished(recipe: Recipe, listener: Listener) -> ContinualSummary:
    summary = train(recipe, listener=listener)
    if not isinstance(summary, ContinualSummary):
        raise StateError("stopped; rerun the command to resume")
    return summary


def _routed(recipe: Recipe, to: Path, listener: Listener) -> list[dict[str, Any]]:
    folder, bases = to / "routed", SharedBase(ProcessGroup(recipe.train.device))
    if not folder.exists():
        entries = Bank(to / "fastslow" / "bank").entries()
        with new_folder(folder) as draft:
            write_combination(entries, recipe, draft, bases, kind="routed", progress=unwatched)
    evaluator = DomainEvaluator(recipe, bases, listener)
    with evaluator.of(folder) as (policies, policy):
        return evaluator.evaluate(policies, policy, label=policy)


def _samples(recipes: Mapping[str, Recipe], to: Path) -> list[dict[str, Any]]:
    """The samples of both runs side by side: same prompts, same seed."""
    merged: dict[str, dict[str, Any]] = {}
    for name in recipes:
        for sample in json.loads((to / name / "samples.json").read_text(encoding="utf-8")):
            entry = merged.setdefault(sample["prompt"], {**sample, "answers": {}, "rewards": {}})
            for kind in ("answers", "rewards"):
                for label, value in sample[kind].items():
                    entry[kind][label if label == "base" else name] = value
    return list(merged.values())
