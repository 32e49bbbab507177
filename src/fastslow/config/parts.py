"""The recipes of a run's parts (stages, rounds or domains) before any of them is trained.

They are made by the same functions as in the run, with a stand-in for what does not exist yet, so
that none is refused after others have been trained.
"""

from collections.abc import Mapping
from typing import Any

from fastslow.config.continual import ContinualConfig, domain_settings, start_of
from fastslow.config.recipe import Recipe
from fastslow.config.sampling import RoundsConfig, round_settings
from fastslow.config.stages import stage_settings

PART_BEFORE = "the part before"
"""Stand-in for the adapter of a part that is not trained yet, and for its answers."""

Settings = dict[str, Any]


def part_settings(recipe: Recipe) -> dict[str, Settings]:
    """The recipe of each part as a mapping, by label; empty for a single run."""
    whole = recipe.model_dump(mode="json")
    if recipe.stages:
        return _stages(whole, recipe)
    if recipe.rounds is not None:
        return _rounds(whole, recipe.rounds)
    return {} if recipe.continual is None else _domains(whole, recipe.continual)


def stage_label(recipe: Recipe, index: int) -> str:
    """Name of a stage, counted from 0, in messages."""
    return f"stage {index + 1}, {recipe.stages[index].name}"


def _stages(whole: Settings, recipe: Recipe) -> dict[str, Settings]:
    return {
        stage_label(recipe, index): stage_settings(
            whole, recipe.stages, index, start_from=PART_BEFORE, output_dir=recipe.output_dir
        )
        for index in range(len(recipe.stages))
    }


def _rounds(whole: Settings, rounds: RoundsConfig) -> dict[str, Settings]:
    # Without a beta per round, every round after the second is like the second.
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
    # If drift splits a stream, two stretches stand for however many there will be.
    domains: Mapping[int, tuple[str, Mapping[str, Any]]] = dict(
        enumerate([(domain.name, domain.data) for domain in continual.domains], 1)
    ) or {1: ("stretch 1", {}), 2: ("stretch 2", {})}
    names = [name for name, _ in domains.values()]
    settings = {}
    for number, (name, data) in domains.items():
        fresh = start_of(continual.start, name, names[: number - 1]) is None
        settings[f"domain {number}, {name}"] = domain_settings(
            whole,
            data,
            start_from=None if fresh else PART_BEFORE,
            memory=[],  # Earlier pairs are never a reason to refuse a recipe.
            fisher=PART_BEFORE if continual.anchor == "ewc" else None,
            output_dir=whole["output_dir"],
        )
    return settings
