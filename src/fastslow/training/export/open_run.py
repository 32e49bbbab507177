"""A finished run, opened again: to measure, to sample from, to export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.adapters import BASE, load_tokenizer
from fastslow.config import Recipe, load_recipe
from fastslow.errors import ConfigError, StateError
from fastslow.scoring import Encoder
from fastslow.training.build import (
    PREVIOUS,
    make_encoder,
    open_policies,
    reference_policy,
)
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.routed import Router
from fastslow.training.rounds import last_round
from fastslow.training.stages import last_stage
from fastslow.training.state.summary import ContinualSummary, RunSummary, read_summary


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """The policies a run ended with."""

    folder: Path
    recipe: Recipe
    summary: RunSummary | ContinualSummary
    tokenizer: Any
    encoder: Encoder
    policies: Policies

    @property
    def reference(self) -> str:
        """The policy the run's objective compared with."""
        return reference_policy(self.recipe) if self.recipe.continual is None else BASE

    def remembered(self, policy: str) -> dict[str, float] | None:
        """What the objective remembers of a module's training; None for any other policy."""
        running = self.summary.running if isinstance(self.summary, RunSummary) else {}
        return running.get(policy)

    def policy(self, asked: str) -> str:
        """The policy that a user means by a module's name, `leader`, `reference` or `base`.

        Raises ConfigError for any other.
        """
        leader = self.summary.leader
        names = {name: name for name in (*self.summary.adapters, leader)}
        names |= {"leader": leader, "reference": self.reference, "base": BASE}
        if asked not in names:
            raise ConfigError(f"module: there is no {asked!r}; this run has {', '.join(names)}")
        return names[asked]


def read_run(folder: Path) -> tuple[Recipe, RunSummary | ContinualSummary]:
    """Recipe and summary of a finished run, those of the last stage where it has several.

    Raises StateError where there is none, or the stage before the last is gone.
    """
    recipe, summary = read_whole(folder)
    return last_part(recipe, folder), summary


def last_part(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe that the run folder itself is of: that of the last round or stage, if any.

    Raises StateError where the one before is missing or not finished.
    """
    return last_round(recipe, folder) if recipe.rounds else last_stage(recipe, folder)


def read_whole(folder: Path) -> tuple[Recipe, RunSummary | ContinualSummary]:
    """The same with the recipe of all stages, which need not be there any more."""
    if not (folder / "config.yaml").exists():
        raise StateError(f"{folder} is not a run folder: it has no config.yaml")
    if not (folder / "summary.json").exists():
        raise StateError(f"the run in {folder} is not finished; run its train command again")
    return load_recipe(folder / "config.yaml"), read_summary(folder / "summary.json")


def open_run(folder: Path) -> FinishedRun:
    """Load the base and every module of a finished run, frozen."""
    recipe, summary = read_run(folder)
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    folders = {name: folder / path for name, path in summary.adapters.items()}
    routed = (folder / "adapters" / "router.json").exists()
    if recipe.lora.start_from is not None:
        folders[PREVIOUS] = Path(recipe.lora.start_from)
    return FinishedRun(
        folder=folder,
        recipe=recipe,
        summary=summary,
        tokenizer=tokenizer,
        encoder=make_encoder(recipe, tokenizer),
        policies=open_policies(
            recipe,
            folders,
            tokenizer,
            router=Router.load(folder / "adapters") if routed else None,
        ),
    )
