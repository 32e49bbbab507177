"""Scenarios that methods are compared on: domains in order and a base, from a world or files."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.atomic_io import write_rows
from fastslow.bench.methods import JOINT, TRAININGS
from fastslow.bench.tiny_base import copy_base, pretrain_base
from fastslow.config import DomainConfig, Recipe, load_recipe
from fastslow.errors import ConfigError
from fastslow.records import Pair
from fastslow.streams import ExampleStream, open_sources, row_of
from fastslow.streams.worlds import World, write_world

SAMPLED = {"num_prompts": 21, "num_generations": 8, "max_new_tokens": 48}
STRENGTHS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
DRAWN_FROM = 2048
"""Block size for shuffling pairs before the first ones are taken."""
SPARE = 1.02
"""Factor of extra pairs, because some may not be usable."""
OF_LEARNING = ("online", "judge")
"""Sections that say where training pairs come from, which a measurement does not need."""
FEW_STRENGTHS = (1.0, 2.0)
"""For real pairs, where an evaluation takes a minute instead of a second."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A base model, domains in order, and the settings that all methods share."""

    name: str
    domains: tuple[DomainConfig, ...]
    settings: Mapping[str, Any]
    """Sections of the recipe."""
    strengths: tuple[float, ...] = STRENGTHS
    """Factors of a final policy's update, rising; 1 is among them."""

    def measured(self) -> Recipe:
        """A recipe that names every domain, from which policies are measured."""
        domains = [domain.model_dump() for domain in self.domains]
        settings = {k: v for k, v in self.settings.items() if k not in OF_LEARNING}
        return load_recipe({**settings, "continual": {"domains": domains}})

    def recipe(self, training: str, rate: float, to: Path, *, pairs: int, measure: bool) -> Recipe:
        """The recipe of a training at a learning rate.

        Every training takes the same number of steps: as many as `pairs` of each domain fill, in
        the order of their files; for the joint training, of all domains shuffled. Without `measure`
        a continual run is not measured during training.
        """
        changes = dict(TRAININGS[training])
        batch = self.settings["train"]["batch_size"]
        steps = -(-pairs // batch)
        raw: dict[str, Any] = {**self.settings, **changes, "output_dir": str(to)}
        raw["train"] = {**self.settings["train"], "learning_rate": rate, "max_steps": steps}
        if training == JOINT:
            count = len(self.domains)
            raw["train"]["max_steps"] = steps * count
            whole = math.ceil(pairs * SPARE) * count
            sources = [source for domain in self.domains for source in domain.train_sources]
            raw["data"] = {**raw["data"], "train": sources, "shuffle": whole}
            raw["eval"] = {**raw["eval"], "num_prompts": 0, "judge": None}
        else:
            kept = {} if measure else {"eval": None}
            domains = [domain.model_dump() | kept for domain in self.domains]
            raw["continual"] = {**changes["continual"], "domains": domains}
        return load_recipe(raw)


def world_scenario(
    world: World, folder: Path, *, pairs: int, held_out: int = 48, noise: float = 0.0
) -> Scenario:
    """The scenario of a world, written to a folder unless it exists already."""
    if not (folder / "world.json").exists():
        copy_base(pretrain_base(world), folder / "base")
        write_world(world, folder, pairs=pairs, held_out=held_out, noise=noise, seed=world.seed)
    domains = tuple(
        DomainConfig(
            name=domain,
            train=str(folder / domain / "train.jsonl"),
            eval=str(folder / domain / "test.jsonl"),
        )
        for domain in world.domains
    )
    settings = {
        "model": str(folder / "base"),
        "data": {"max_length": 96},
        "lora": {"rank": 8, "alpha": 16.0},
        "objective": {"name": "dpo", "beta": 1 / world.sharpness},
        "train": {"batch_size": 16, "warmup_steps": 4},
        "eval": {**SAMPLED, "judge": {"kind": "world", "file": str(folder / "world.json")}},
        "checkpoint": {"every": 10_000, "keep": 1},
    }
    return Scenario(f"world-{world.seed}", domains, settings)


def files_scenario(
    folders: Sequence[Path],
    shared: Recipe,
    to: Path,
    *,
    pairs: int,
    seed: int = 0,
    lacking: Callable[[Pair], str | None] = lambda pair: None,
) -> Scenario:
    """The scenario of folders that each hold a domain's `train` and `test` pairs, in their order.

    The seed initialises the modules and selects `pairs` training pairs of each domain without
    missing fields. They are written to the folder `to`, so that every method trains on the same
    ones. Raises ConfigError for a folder without both files, or without such a pair, and if the
    shared recipe cannot be measured on the domains.
    """
    domains = []
    for folder in folders:
        pairs_file = to / folder.name / "train.jsonl"
        files = {kind: sorted(folder.glob(f"{kind}.*")) for kind in ("train", "test")}
        missing = [kind for kind, paths in files.items() if not paths]
        if missing:
            raise ConfigError(f"{folder} has no {' and no '.join(missing)} file of pairs")
        if not pairs_file.exists():
            pairs_file.parent.mkdir(parents=True, exist_ok=True)
            sources = open_sources([str(file) for file in files["train"]])
            drawn = ExampleStream(sources, domain=folder.name, shuffle=DRAWN_FROM, seed=seed)
            rows, why = _rows(drawn, math.ceil(pairs * SPARE), lacking)
            if not rows:
                raise ConfigError(f"{folder} has no training pair usable by all objectives: {why}")
            write_rows(pairs_file, rows)
        domains.append(
            DomainConfig(
                name=folder.name,
                train=str(pairs_file),
                eval=[str(file) for file in files["test"]],
            )
        )
    explicit = shared.model_dump(exclude_unset=True)
    train = {"batch_size": shared.train.batch_size, **explicit.get("train", {})}
    settings = {"data": {}, "eval": {}, **explicit, "train": train, "seed": seed}
    made = Scenario(f"files-{seed}", tuple(domains), settings, FEW_STRENGTHS)
    made.measured()  # Raises before anything is trained.
    return made


def _rows(
    drawn: ExampleStream, most: int, lacking: Callable[[Pair], str | None]
) -> tuple[list[dict[str, Any]], str]:
    """Rows of the first pairs without missing fields, and why the last one was skipped."""
    rows: list[dict[str, Any]] = []
    why = "all are ties"
    for pair in drawn:
        if not isinstance(pair, Pair) or pair.is_tie:
            continue
        if reason := lacking(pair):
            why = reason
            continue
        rows.append(row_of(pair))
        if len(rows) == most:
            break
    return rows, why


def smallest_domain(scenario: Scenario) -> int:
    """Number of pairs of the smallest domain."""
    counts = (
        ExampleStream(open_sources(domain.train_sources)).estimate_pairs()
        for domain in scenario.domains
    )
    return min(count for count in counts if count is not None)
