"""What a policy's reverse KL may be."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastslow.config import BudgetConfig, Recipe
from fastslow.evaluation import Tried
from fastslow.objectives import Objective
from fastslow.records import Prompt
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
    prompts: Sequence[Prompt],
    *,
    seed: int,
) -> float:
    """The largest reverse KL, nats per answer."""
    if config.reverse_kl is not None:
        return config.reverse_kl
    return PER_TOKEN * answers.mean_length(reference, prompts, seed=seed)


def budget_facts(limit: float, tried: Sequence[Tried]) -> dict[str, Any]:
    """What `tried` says of a policy and its limit, as JSON; `full` is for who keeps it."""
    return {
        "limit": limit,
        "strength": tried[-1].strength,
        "reverse_kl": tried[-1].reverse_kl,
        "tried": [asdict(one) for one in tried],
        "full": None,
    }
