"""The largest reverse KL that a policy may have."""

from collections.abc import Sequence

from fastslow.config import BudgetConfig, Recipe
from fastslow.objectives import Objective
from fastslow.records import Example, Prompt
from fastslow.training.budget.answer_kl import AnswerKl

PER_TOKEN = 0.1
"""Nats per token of the reference's answers, if the recipe sets no limit."""


def budget_of(recipe: Recipe, objective: Objective) -> BudgetConfig | None:
    """The KL budget of a recipe; None if it has none. Training on demonstrations is not limited,
    and a reward model has no KL from its base."""
    if recipe.task == "reward" or objective.takes == "demonstrations":
        return None
    return recipe.budget


def limit_of(
    config: BudgetConfig,
    answers: AnswerKl,
    reference: str,
    prompts: Sequence[Prompt | Example],
    *,
    seed: int,
) -> float:
    """The largest allowed reverse KL, nats per answer."""
    if config.reverse_kl is not None:
        return config.reverse_kl
    return PER_TOKEN * answers.mean_length(reference, prompts, seed=seed)
