"""A finished run, opened again: to evaluate, to generate with, to export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.adapters import BASE, load_tokenizer
from fastslow.config import Recipe, open_recipe
from fastslow.errors import StateError
from fastslow.foreign_files import check_no_links
from fastslow.scoring import Encoder
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.policies.loading import (
    PREVIOUS,
    SharedBase,
    make_encoder,
    open_policies,
    reference_policy,
)
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.routed import Router
from fastslow.training.state.parts import answering_part
from fastslow.training.state.summary import ContinualSummary, RunSummary, read_summary


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """The policies a run ended with."""

    recipe: Recipe
    summary: RunSummary | ContinualSummary
    tokenizer: Any
    encoder: Encoder
    policies: Policies

    @property
    def reference(self) -> str:
        """The policy the run's objective compared with."""
        return reference_policy(self.recipe) if self.recipe.continual is None else BASE


def read_run(folder: Path, *, trust_code: bool) -> tuple[Recipe, RunSummary | ContinualSummary]:
    """Recipe and summary of a finished run; of one in parts, the recipe of its last part.

    Without `trust_code` nothing in the recipe runs Python or asks a server. Raises StateError where
    there is no such run.
    """
    if not (folder / "config.yaml").exists():
        raise StateError(f"{folder} is not a run folder: it has no config.yaml")
    if not (folder / "summary.json").exists():
        raise StateError(f"the run in {folder} is not finished; run its train command again")
    summary = read_summary(folder / "summary.json")
    if isinstance(summary, ContinualSummary) or not summary.parts:
        return open_recipe(folder / "config.yaml", trust_code=trust_code), summary
    part = answering_part(folder, summary)
    if not (part / "config.yaml").exists():
        raise StateError(f"{part}, the last part of the run in {folder}, is missing; restore it")
    recipe = open_recipe(part / "config.yaml", trust_code=trust_code)
    return _moved_with(folder, recipe, summary.parts[-1]), summary


def _moved_with(folder: Path, recipe: Recipe, part: str) -> Recipe:
    """A part's recipe whose start is in the same run folder, wherever that is now."""
    start = recipe.lora.start_from
    before = recipe.output_dir.removesuffix(f"/{part}")
    if start is None or not start.startswith(f"{before}/"):
        return recipe
    now = str(folder / Path(start).relative_to(before))
    return recipe.model_copy(update={"lora": recipe.lora.model_copy(update={"start_from": now})})


def open_run(folder: Path, *, trust_code: bool) -> FinishedRun:
    """Load the base and every module of a finished run, frozen; `trust_code` as of `read_run`."""
    recipe, summary = read_run(folder, trust_code=trust_code)
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    folders = {name: summary.adapter(folder, name) for name in summary.adapters}
    # Of a run over domains beside its adapters, of a combination at the top.
    routers = [at for at in (folder / "adapters", folder) if (at / "router.json").exists()]
    for at in routers:
        check_no_links(at)
    if recipe.lora.start_from is not None:
        folders[PREVIOUS] = Path(recipe.lora.start_from)
    return FinishedRun(
        recipe=recipe,
        summary=summary,
        tokenizer=tokenizer,
        encoder=make_encoder(recipe, tokenizer),
        policies=open_policies(
            recipe,
            folders,
            tokenizer,
            SharedBase(ProcessGroup(recipe.train.device)),
            router=Router.load(routers[0]) if routers else None,
        ),
    )
