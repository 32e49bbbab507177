"""What each run's accuracies, margins, log-ratios and KL are relative to."""

from collections.abc import Sequence
from pathlib import Path

from fastslow.config import Recipe
from fastslow.reports.runs import ReportedRun


def reference_of(run: ReportedRun) -> str | None:
    """The run's reference: the folder or hub id of the base, or the adapter it starts from.

    A continual run is measured against the base throughout, whatever its domains learn against.
    None for a reward model, which has no reference, and for a recipe that this version cannot read.
    """
    recipe = run.recipe
    if recipe is None or run.of_rewards:
        return None
    if run.continual:
        return f"base {_place(recipe.model)}"
    moving = ", moving in training" if recipe.moving_reference else ""
    return f"{_measured_against(recipe)}{moving}"


def learned_against(run: ReportedRun) -> str | None:
    """What each domain of a continual run is learned against, if it is not the base."""
    previous = run.recipe is not None and run.recipe.reference == "previous"
    return "the policy before each domain" if run.continual and previous else None


def references_differ(runs: Sequence[ReportedRun]) -> bool:
    """Whether numbers relative to a reference cannot be compared among the runs."""
    return len({reference_of(run) for run in runs} - {None}) > 1


def _measured_against(recipe: Recipe) -> str:
    if recipe.reference_name == "previous" and recipe.lora.start_from is not None:
        return f"adapter {_place(recipe.lora.start_from)}"
    return f"base {_place(recipe.model)}"


def _place(name: str) -> str:
    """The same text for the same folder, however a recipe writes it."""
    return str(Path(name).resolve()) if Path(name).exists() else name
