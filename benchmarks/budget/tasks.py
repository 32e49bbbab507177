"""One run of the benchmark: the domains of a world at one rate, and the policies it produces.

out/
  worlds/<seed>/            files, base model and the base's rewards
  runs/<setting>/<seed>-<rate>/
  records/<setting>/<seed>-<rate>.json     every policy as trained
  frontiers/<setting>/<seed>-<rate>.json   the final policy at several strengths
"""

import json
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastslow.adapters import BASE, Bank, copy_adapter
from fastslow.atomic_io import new_folder, write_text
from fastslow.bench.measure import points_of
from fastslow.bench.scenario import Scenario, world_scenario
from fastslow.bench.suite import kept
from fastslow.config import Recipe, load_recipe
from fastslow.streams.worlds import World
from fastslow.training import train
from fastslow.training.continual.combination import write_combination
from fastslow.training.continual.combined import LAST, Combination, combination_after
from fastslow.training.continual.measurement import DomainEvaluator
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.policies.loading import SharedBase
from fastslow.training.state.event_log import ignore, unwatched

PAIRS = 768
ANSWERS = {"num_prompts": 21, "num_generations": 12, "max_new_tokens": 48}
MEASURING_SEED = 77
"""So that the answers differ from those that a run samples itself."""


@dataclass(frozen=True, slots=True)
class Task:
    """One world at one rate in one setting."""

    out: Path
    seed: int
    rate: float
    domains: int
    setting: str
    final: str | None
    """Another way to combine the modules at the end."""
    changes: tuple[str, ...]
    """Settings of the recipe, as key=value."""

    @property
    def place(self) -> str:
        return f"{self.seed}-{self.rate:g}"

    @property
    def run(self) -> Path:
        return self.out / "runs" / self.setting / self.place

    @property
    def record(self) -> Path:
        return self.out / "records" / self.setting / f"{self.place}.json"

    @property
    def frontier(self) -> Path:
        return self.out / "frontiers" / self.setting / f"{self.place}.json"

    def scenario(self) -> Scenario:
        world = World(self.seed, num_domains=self.domains)
        return world_scenario(world, self.out / "worlds" / f"{self.seed}", pairs=PAIRS)


def run(task: Task) -> None:
    """Train and measure, unless already done."""
    kept(task.record, partial(_measured, task))
    kept(task.frontier, partial(_frontier, task))


def _measured(task: Task) -> dict[str, Any]:
    recipe = _recipe(task.scenario(), task)
    began = time.monotonic()
    if train(recipe) is None:
        raise SystemExit("stopped")
    took = time.monotonic() - began
    for checkpoints in task.run.rglob("checkpoints"):
        shutil.rmtree(checkpoints)
    policies = _policies(recipe, task.run, task.final)
    return {"seed": task.seed, "rate": task.rate, "wall_s": took, **policies}


def _frontier(task: Task) -> dict[str, Any]:
    scenario = task.scenario()
    recipe, bases = _recipe(scenario, task), SharedBase(ProcessGroup("cpu"))
    evaluator = DomainEvaluator(scenario.measured(), bases, ignore)
    return {"points": points_of(scenario, evaluator, _final(recipe, task.run, task.final, bases))}


def _recipe(scenario: Scenario, task: Task) -> Recipe:
    settings: dict[str, Any] = dict(scenario.settings)
    domains = [domain.model_dump() | {"eval": None} for domain in scenario.domains]
    settings |= {
        "train": {**settings["train"], "learning_rate": task.rate},
        "continual": {"domains": domains},
        "eval": {"num_prompts": 0},
        "output_dir": str(task.run),
    }
    return load_recipe(settings, list(task.changes))


def _policies(recipe: Recipe, run: Path, final: str | None) -> dict[str, Any]:
    """True reward gained and reverse KL: of each module on its domain, and of the final policy."""
    domains = [
        domain.model_copy(update={"eval": str(Path(str(domain.train)).with_name("test.jsonl"))})
        for domain in recipe.continual.domains
    ]
    judge = {"kind": "world", "file": str(Path(recipe.model).parent / "world.json")}
    measured = load_recipe(
        {
            **recipe.model_dump(mode="json", exclude_unset=True),
            "continual": {"domains": [domain.model_dump() for domain in domains]},
            "eval": {**ANSWERS, "judge": judge},
            "seed": MEASURING_SEED,
        }
    )
    bases = SharedBase(ProcessGroup(recipe.train.device))
    evaluator = DomainEvaluator(measured, bases, ignore)
    record: dict[str, Any] = {"domains": {}}
    base_file = Path(recipe.model).parent / "rewards.json"
    base = json.loads(base_file.read_text()) if base_file.exists() else {}
    for entry in Bank(run / "bank").entries():
        folder = run / "measured" / entry.name
        if not folder.exists():
            with new_folder(folder) as draft:
                copy_adapter(entry.folder, draft)
                Combination(LAST, [entry.name], None, None, None).write(draft)
        with evaluator.of(folder) as (policies, policy):
            evaluate = partial(evaluator.evaluate, policies, domains=[entry.domain], label="")
            if entry.domain not in base:
                base[entry.domain] = evaluate(BASE)[0]["reward"]
            record["domains"][entry.domain] = _gain(evaluate(policy)[0], base[entry.domain])
    write_text(base_file, json.dumps(base))
    summary = json.loads((run / "summary.json").read_text())
    for result, path in zip(record["domains"].values(), summary["runs"], strict=True):
        part = json.loads((run / path / "summary.json").read_text())
        result |= {"prequential": part["prequential"], "warnings": part["warnings"]}
        result |= {"wall_s": part["wall_s"], "leader": part["leader"], "budget": part["budget"]}
    last = _final(recipe, run, final, bases)
    with evaluator.of(last) as (policies, policy):
        results = evaluator.evaluate(policies, policy, label="")
    record["final"] = {
        name: _gain(result, base[name])
        for name, result in zip(evaluator.names, results, strict=True)
    }
    record["budget"] = Combination.read(last).budget
    return record


def _final(recipe: Recipe, run: Path, kind: str | None, bases: SharedBase) -> Path:
    """Folder of the run's final policy, or of its modules combined another way."""
    entries = Bank(run / "bank").entries()
    if kind is None:
        return combination_after(len(entries), run)
    to = run / "measured" / kind
    if not to.exists():
        with new_folder(to) as draft:
            write_combination(entries, recipe, draft, bases, kind=kind, progress=unwatched)
    return to


def _gain(measured: dict[str, Any], base: float) -> dict[str, float]:
    kept = ("reverse_kl", "accuracy", "mean_length", "truncated")
    return {"gain": measured["reward"] - base, **{key: measured[key] for key in kept}}
