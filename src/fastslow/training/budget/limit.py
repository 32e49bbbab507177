"""What a policy's reverse KL may be."""

from collections.abc import Sequence

from fastslow.config import BudgetConfig, Recipe
from fastslow.objectives import Objective
from fastslow.records import Example, Prompt
from fastslow.training.budget.answer_kl import AnswerKl

PER_TOKEN = 0.1
"""Nats for each token of the reference's answers, where the recipe gives no limit."""


def budget_of(recipe: Recipe, objective: Objective) -> BudgetConfig | None:
    """The budget of what a recipe trains. Demonstrations are learned wherever they lead, and a
    reward model has no distance from its base."""
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
    """The largest reverse KL, nats per answer."""
    if config.reverse_kl is not None:
        return config.reverse_kl
    return PER_TOKEN * answers.mean_length(reference, prompts, seed=seed)
