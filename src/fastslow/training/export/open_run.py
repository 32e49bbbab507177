"""Reopens a run, finished or at a checkpoint, to evaluate it, generate with it or export it."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.adapters import BASE, load_context_length, load_tokenizer
from fastslow.config import Recipe, open_recipe
from fastslow.errors import ConfigError, StateError
from fastslow.foreign_files import check_is_run, check_no_links
from fastslow.scoring import Encoder
from fastslow.streams import folder_fingerprint
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.export.checkpointed import modules_at, newest, summary_at
from fastslow.training.policies.loading import (
    PREVIOUS,
    SharedBase,
    make_encoder,
    make_policies,
    open_policies,
    reference_policy,
)
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.routed import Router
from fastslow.training.state.checkpoint import Snapshot
from fastslow.training.state.inputs import read_inputs
from fastslow.training.state.parts import answering_part
from fastslow.training.state.run_config import moved_with
from fastslow.training.state.summary import ContinualSummary, RunSummary, read_summary


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """The policies a run ended with, or has at its newest checkpoint."""

    recipe: Recipe
    summary: RunSummary | ContinualSummary
    tokenizer: Any
    encoder: Encoder
    policies: Policies

    @property
    def reference(self) -> str:
        """The policy the run's objective compared with."""
        return reference_policy(self.recipe) if self.recipe.continual is None else BASE


def is_finished(folder: Path) -> bool:
    """Whether a run has finished. Raises StateError if the folder holds none."""
    check_is_run(folder)
    return (folder / "summary.json").exists()


def read_run(folder: Path, *, trust_code: bool) -> tuple[Recipe, RunSummary | ContinualSummary]:
    """Recipe and summary of a finished run; for a run in parts, the recipe of its last part.

    Without `trust_code`, nothing in the recipe runs Python or asks a server. Raises StateError if
    there is no such run.
    """
    if not is_finished(folder):
        raise StateError(f"the run in {folder} is not finished; run its train command again")
    summary = read_summary(folder / "summary.json")
    part = _answering(folder, summary)
    if not (part / "config.yaml").exists():
        raise StateError(f"{part}, the last part of the run in {folder}, is missing; restore it")
    recipe = open_recipe(part / "config.yaml", trust_code=trust_code)
    within = part.relative_to(folder).as_posix()
    before = Path(recipe.output_dir.removesuffix(f"/{within}"))
    return moved_with(recipe, before, folder), summary


def _answering(folder: Path, summary: RunSummary | ContinualSummary) -> Path:
    """The folder of the part whose recipe opens the policies that a finished run ended with."""
    return folder if isinstance(summary, ContinualSummary) else answering_part(folder, summary)


def check_base_of(folder: Path, recipe: Recipe, summary: RunSummary | ContinualSummary) -> None:
    """Raise StateError if a finished run's base, tokenizer or template are no longer those it was
    trained on."""
    part = _answering(folder, summary)
    if not (part / "inputs.json").exists():
        return
    if Path(recipe.model).is_absolute() and not Path(recipe.model).is_dir():
        raise StateError(
            f"the base of the run in {folder} was {recipe.model}, which is not there; restore it, "
            f"or set model in {part / 'config.yaml'} to where it is now"
        )
    before, now = read_inputs(part)["model"], folder_fingerprint(recipe.model)
    if before == now:
        return
    files = before if isinstance(before, list) else []
    changed = sorted({str(file[0]) for file in now if file not in files})
    raise StateError(
        f"the base of the run in {folder} is not the one it was trained on: in {recipe.model}, "
        + (f"{', '.join(changed)} changed" if changed else "files went")
        + " since; restore the folder"
    )


def read_any_run(
    folder: Path, *, trust_code: bool
) -> tuple[Recipe, RunSummary | ContinualSummary, Snapshot | None]:
    """As `read_run`, but also for an unfinished ordinary run: its summary is then that of its
    newest checkpoint, which is returned last. Raises StateError if there is neither."""
    if is_finished(folder):
        return *read_run(folder, trust_code=trust_code), None
    snapshot = newest(folder)
    recipe = open_recipe(folder / "config.yaml", trust_code=trust_code)
    recipe = moved_with(recipe, Path(recipe.output_dir), folder)
    return recipe, summary_at(snapshot, recipe), snapshot


def open_run(folder: Path, *, trust_code: bool, max_length: int | None = None) -> OpenedRun:
    """Load the base and every module of a run, frozen; of an unfinished run, from its newest
    checkpoint. `trust_code` is as for `read_run`; `max_length` replaces `data.max_length`.
    Raises StateError if there is no such run."""
    recipe, summary, snapshot = read_any_run(folder, trust_code=trust_code)
    if max_length is not None:
        recipe = _with_length(recipe, max_length)
    check_base_of(folder, recipe, summary)
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    bases = SharedBase(ProcessGroup(recipe.train.device))
    if snapshot is None:
        policies = _policies_of(folder, recipe, summary, tokenizer, bases)
    else:
        warnings.warn(f"{folder}: {summary.warnings[0]}", stacklevel=2)
        modules = modules_at(snapshot, recipe, bases.load(recipe))
        policies = make_policies(recipe, modules, tokenizer, bases.processes)
    return OpenedRun(recipe, summary, tokenizer, make_encoder(recipe, tokenizer), policies)


def _with_length(recipe: Recipe, max_length: int) -> Recipe:
    """The recipe with another `data.max_length`. Raises ConfigError if the base reads fewer."""
    context = load_context_length(recipe.model, trust_remote_code=recipe.trust_remote_code)
    if context is not None and max_length > context:
        raise ConfigError(
            f"max_length: got {max_length}; {recipe.model} reads at most {context} tokens"
        )
    data = recipe.data.model_copy(update={"max_length": max_length})
    return recipe.model_copy(update={"data": data})


def _policies_of(
    folder: Path,
    recipe: Recipe,
    summary: RunSummary | ContinualSummary,
    tokenizer: Any,
    bases: SharedBase,
) -> Policies:
    """The policies that a finished run ended with."""
    folders = {name: summary.adapter(folder, name) for name in summary.adapters}
    # In a run over domains it is beside the adapters, in a combination at the top.
    routers = [place for place in (folder / "adapters", folder) if (place / "router.json").exists()]
    for place in routers:
        check_no_links(place)
    if recipe.lora.start_from is not None:
        folders[PREVIOUS] = Path(recipe.lora.start_from)
    router = Router.load(routers[0]) if routers else None
    return open_policies(recipe, folders, tokenizer, bases, router=router)
