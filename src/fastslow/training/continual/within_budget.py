"""Scales a combination down to its budget, measured on the prompts kept with its modules."""

import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastslow.adapters import Entry, Modules, load_tokenizer
from fastslow.config import Recipe
from fastslow.errors import DataError
from fastslow.records import Prompt
from fastslow.streams import open_sources, read_prompts
from fastslow.training.budget.adapter import scaled_from_base
from fastslow.training.budget.answer_kl import AnswerKl
from fastslow.training.budget.budget import PROMPTS
from fastslow.training.budget.limit import budget_of
from fastslow.training.continual.combined import Combination, open_combination
from fastslow.training.data.dataset import objective_of
from fastslow.training.policies.loading import SharedBase, make_encoder

FULL = "full"
"""Folder of the modules before they were scaled down."""


def keep_within(
    folder: Path,
    made: Combination,
    entries: Sequence[Entry],
    recipe: Recipe,
    bases: SharedBase,
) -> Combination:
    """Scale a combination in a folder down to the recipe's budget; returns it with what was done.

    The reverse KL to the base is measured on kept prompts, the same number of each entry. All
    modules of a routed policy get the same strength. Raises DataError if no entry has kept
    examples.
    """
    # Without a budget the objective is not needed: an untrusted folder may not provide it.
    budget = recipe.budget and budget_of(recipe, objective_of(recipe))
    if budget is None:
        return made
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    policies = open_combination(folder, made, recipe, tokenizer, bases)
    answers = AnswerKl.of(recipe, policies, make_encoder(recipe, tokenizer))
    prompts = _prompts(entries, recipe.seed)
    scaled = scaled_from_base(answers, made.policy, made.modules, prompts, budget, recipe.seed)
    facts = asdict(scaled)
    if scaled.strength < 1:
        facts["full"] = FULL
        _replace(folder, made, policies.modules)
    return _with_budget(made, facts)


def _prompts(entries: Sequence[Entry], seed: int) -> list[Prompt]:
    """Kept prompts, the same number of each entry."""
    each = max(1, PROMPTS // len(entries))
    prompts: list[Prompt] = []
    for entry in entries:
        kept = list(read_prompts(open_sources([str(entry.memory)])))
        draw = random.Random(f"{seed}/{entry.name}/budget")
        prompts += draw.sample(kept, min(each, len(kept)))
    if not prompts:
        raise DataError(
            f"{entries[0].memory} holds no examples, on which the budget's reverse KL is measured; "
            "keep some (data.replay_buffer_size), or combine without a budget"
        )
    return prompts


def _replace(folder: Path, made: Combination, modules: Modules) -> None:
    """Replace modules by their scaled versions; the originals are kept in FULL."""
    for name in made.modules:
        place, full = folder / made.place(name), folder / FULL / made.place(name)
        full.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as scratch:
            modules.save(name, Path(scratch) / name)
            for file in (Path(scratch) / name).iterdir():
                (place / file.name).replace(full / file.name)
                file.replace(place / file.name)


def _with_budget(made: Combination, facts: dict[str, Any]) -> Combination:
    strength, weights = facts["strength"], made.weights
    if weights is not None:
        weights = {name: weight * strength for name, weight in weights.items()}
    return replace(made, weights=weights, budget=facts)
