"""What a policy's reverse KL may be, and modules scaled down until it is."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from fastslow.adapters import BASE, Modules
from fastslow.config import BudgetConfig, Recipe
from fastslow.evaluation import Tried, strength_within
from fastslow.objectives import Objective
from fastslow.records import Example
from fastslow.training.policies.answer_kl import AnswerKl

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
    prompts: Sequence[Example],
    *,
    seed: int,
) -> float:
    """The largest reverse KL, nats per answer."""
    if config.reverse_kl is not None:
        return config.reverse_kl
    return PER_TOKEN * answers.mean_length(reference, prompts, seed=seed)


def scaled_down(
    modules: Modules,
    names: Sequence[str],
    limit: float,
    reverse_kl: Callable[[], float],
    *,
    start: str = BASE,
) -> list[Tried]:
    """Scale modules down in place, all by the same strength, which is 1 where they are within.

    Args:
        limit: nats.
        reverse_kl: of the policy as it is when this is called.
        start: what strength 0 is: the base, or a module of the same shape.

    Returns what was tried, in its order; the last is how the modules are left.
    """
    full = {
        name: {key: tensor.clone() for key, tensor in modules.tensors(name).items()}
        for name in names
    }

    def scale(strength: float) -> None:
        for name in names:
            modules.put_between(name, full[name], strength, start=start)

    def at(strength: float) -> float:
        scale(strength)
        return reverse_kl()

    tried = strength_within(limit, at)
    scale(tried[-1].strength)
    return tried


def budget_facts(limit: float, tried: Sequence[Tried]) -> dict[str, Any]:
    """What `tried` says of a policy and its limit, as JSON; `full` is for who keeps it."""
    return {
        "limit": limit,
        "strength": tried[-1].strength,
        "reverse_kl": tried[-1].reverse_kl,
        "tried": [asdict(one) for one in tried],
        "full": None,
    }
