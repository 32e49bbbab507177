"""Combines bank entries into one policy: a single adapter, or one adapter per prompt."""

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fastslow.adapters import (
    Entry,
    Factors,
    check_one_base,
    combine,
    copy_adapter,
    load_tokenizer,
)
from fastslow.adapters import recompress as nearest
from fastslow.config import Recipe
from fastslow.errors import ConfigError
from fastslow.scoring import Encoder
from fastslow.training.continual.combined import DISTILLED, LAST, REGMEAN, Combination
from fastslow.training.continual.consolidation import Consolidated, consolidate
from fastslow.training.continual.fit_router import fit_router
from fastslow.training.continual.memory import read_memory
from fastslow.training.continual.merge_weights import (
    WeightedMerge,
    grid_weights,
    learned_weights,
    uniform_weights,
)
from fastslow.training.continual.regmean import average
from fastslow.training.continual.within_budget import keep_within
from fastslow.training.data.dataset import objective_of
from fastslow.training.policies.loading import SharedBase, make_encoder, open_policies
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.routed import ROUTED
from fastslow.training.state.event_log import Progress

SUM = "sum"


def write_combination(
    entries: Sequence[Entry],
    recipe: Recipe,
    draft: Path,
    bases: SharedBase,
    *,
    kind: str,
    fixed: Sequence[float] | None = None,
    recompress: int | None = None,
    before: Path | None = None,
    progress: Progress,
    checkpoints: Path | None = None,
) -> Combination:
    """Write the combination of some entries into an empty draft folder, with `combination.json`.

    The folder is an ordinary PEFT adapter or, for `routed`, holds one for each entry and a router.
    `last` is the last entry alone.
    `recipe` defines how the replay buffers are encoded and scored. If the kind is `distilled`,
    `before` holds the combination of some of the entries, which teaches for them, and `checkpoints`
    is the folder for checkpoints of the distillation. Raises ConfigError, StateError or DataError.
    """
    check_one_base(entries)
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise ConfigError("combine: two of the entries have the same name; give each once")
    if kind == LAST:
        combination = Combination(kind, names[-1:], None, None, None)
        copy_adapter(entries[-1].folder, draft)
    elif kind == ROUTED:
        combination = Combination(kind, names, None, None, None)
        _route(entries, recipe, draft, bases)
    elif kind == DISTILLED:
        previous = Consolidated(before, Combination.read(before).entries) if before else None
        rank = recompress or recipe.lora.rank
        total, distance = consolidate(
            entries,
            recipe,
            bases,
            rank=rank,
            before=previous,
            progress=progress,
            checkpoints=checkpoints,
        )
        combination = Combination(kind, names, None, total.rank, None, distance)
        total.write(draft)
    else:
        total, weights, kl = _sum(kind, entries, recipe, bases, fixed, progress)
        lost = None
        if recompress is not None:
            total, lost = nearest(total, recompress)
        shares = dict(zip(names, weights, strict=True))
        combination = Combination(kind, names, shares, total.rank, lost, kl)
        total.write(draft)
    combination = keep_within(draft, combination, entries, recipe, bases)
    combination.write(draft)
    return combination


def task_of(kind: str) -> str:
    """The progress label shown while a combination is made."""
    return "distilling" if kind == DISTILLED else "fitting merge weights"


def _sum(
    kind: str,
    entries: Sequence[Entry],
    recipe: Recipe,
    bases: SharedBase,
    fixed: Sequence[float] | None,
    progress: Progress,
) -> tuple[Factors, list[float], float | None]:
    """A sum, its weights, and for `regmean` its KL from the modules."""
    if kind == REGMEAN:
        total, strength, kl = average(entries, recipe, bases, progress=progress)
        return total, [strength] * len(entries), kl
    modules = [entry.factors() for entry in entries]
    weights = _weights(kind, entries, modules, recipe, bases, fixed, progress)
    return combine(modules, weights), weights, None


def _weights(
    kind: str,
    entries: Sequence[Entry],
    modules: Sequence[Factors],
    recipe: Recipe,
    bases: SharedBase,
    fixed: Sequence[float] | None,
    progress: Progress,
) -> list[float]:
    if kind == "uniform":
        return uniform_weights(len(entries))
    if kind == "fixed":
        if fixed is None or len(fixed) != len(entries):
            raise ConfigError(
                f"fixed: got {len(fixed or [])} weights for {len(entries)} modules "
                f"({', '.join(entry.name for entry in entries)})"
            )
        if not all(map(math.isfinite, fixed)):
            raise ConfigError(f"fixed: got {list(fixed)}; every weight must be a finite number")
        return list(fixed)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / SUM
        combine(modules, [1.0] * len(modules)).write(folder)
        policies, encoder = _open(recipe, {SUM: folder}, bases)
    objective = objective_of(recipe)
    memories = [read_memory(entry, encoder, objective) for entry in entries]
    mixture = WeightedMerge(policies, SUM, modules, objective)
    if kind == "grid":
        return grid_weights(mixture, memories, progress=progress)
    if kind == "learned":
        return learned_weights(mixture, memories, seed=recipe.seed, progress=progress)
    raise ConfigError(
        f"weights: got {kind!r}; allowed are uniform, fixed, grid, learned, regmean, distilled and "
        "routed"
    )


def _route(entries: Sequence[Entry], recipe: Recipe, draft: Path, bases: SharedBase) -> None:
    folders = {entry.name: entry.folder for entry in entries}
    policies, encoder = _open(recipe, folders, bases)
    objective = objective_of(recipe)
    memories = [read_memory(entry, encoder, objective) for entry in entries]
    fit_router(policies, list(folders), memories, objective).save(draft)
    for name, folder in folders.items():
        copy_adapter(folder, draft / name)


def _open(recipe: Recipe, folders: dict[str, Path], bases: SharedBase) -> tuple[Policies, Encoder]:
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    return open_policies(recipe, folders, tokenizer, bases), make_encoder(recipe, tokenizer)
