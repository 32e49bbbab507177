"""What a recipe's parts will be, stages, rounds or domains, before any of them is trained.

They are made by the functions that make them in the run, with a stand-in for what is not there yet,
so that none is refused after others have been trained.
"""

from collections.abc import Mapping
from typing import Any

from fastslow.config.continual import ContinualConfig, domain_settings, start_of
from fastslow.config.recipe import Recipe
from fastslow.config.sampling import RoundsConfig, round_settings
from fastslow.config.stages import stage_settings

PART_BEFORE = "the part before"
"""Stands for the adapter of a part that is not trained yet, and for what it answered."""

Settings = dict[str, Any]


def part_settings(recipe: Recipe) -> dict[str, Settings]:
    """The recipe of each part as a mapping, by label; empty for a recipe of one run."""
    whole = recipe.model_dump(mode="json")
    if recipe.stages:
        return _stages(whole, recipe)
    if recipe.rounds is not None:
        return _rounds(whole, recipe.rounds)
    return {} if recipe.continual is None else _domains(whole, recipe.continual)


def stage_label(recipe: Recipe, index: int) -> str:
    """What a stage, from 0, is called in messages."""
    return f"stage {index + 1}, {recipe.stages[index].name}"


def _stages(whole: Settings, recipe: Recipe) -> dict[str, Settings]:
    return {
        stage_label(recipe, index): stage_settings(
            whole, recipe.stages, index, start_from=PART_BEFORE, output_dir=recipe.output_dir
        )
        for index in range(len(recipe.stages))
    }


def _rounds(whole: Settings, rounds: RoundsConfig) -> dict[str, Settings]:
    # Without a beta of its own, every round after the second is as that one.
    count = min(rounds.count, 2) if rounds.beta is None else rounds.count
    return {
        f"round {index + 1}": round_settings(
            whole,
            index,
            answers=PART_BEFORE,
            start_from=PART_BEFORE if index else whole["lora"]["start_from"],
            output_dir=whole["output_dir"],
        )
        for index in range(count)
    }


def _domains(whole: Settings, continual: ContinualConfig) -> dict[str, Settings]:
    # Where drift cuts a stream up, two stretches stand for however many there will be.
    found: Mapping[int, tuple[str, Mapping[str, Any]]] = dict(
        enumerate([(domain.name, domain.data) for domain in continual.domains], 1)
    ) or {1: ("stretch 1", {}), 2: ("stretch 2", {})}
    names = [name for name, _ in found.values()]
    made = {}
    for number, (name, data) in found.items():
        fresh = start_of(continual.start, name, names[: number - 1]) is None
        made[f"domain {number}, {name}"] = domain_settings(
            whole,
            data,
            start_from=None if fresh else PART_BEFORE,
            memory=[],  # Nothing in earlier pairs is a reason to refuse a recipe.
            fisher=PART_BEFORE if continual.anchor == "ewc" else None,
            output_dir=whole["output_dir"],
        )
    return made
