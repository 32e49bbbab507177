"""The strength at which a policy stays within its recipe's KL budget from the base."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fastslow.adapters import BASE, load_tokenizer
from fastslow.config import BudgetConfig, Recipe
from fastslow.evaluation import WithinBudget
from fastslow.records import Prompt
from fastslow.training.budget.answer_kl import AnswerKl
from fastslow.training.budget.budget import PROMPTS
from fastslow.training.budget.limit import budget_of, limit_of
from fastslow.training.budget.scaling import scaled_down
from fastslow.training.data.dataset import objective_of
from fastslow.training.policies.loading import SharedBase, make_encoder, open_policies

ADAPTER = "adapter"


def adapter_within(
    folder: Path, prompts: Sequence[Prompt], recipe: Recipe, bases: SharedBase
) -> WithinBudget | None:
    """The strength at which the adapter in a folder is within budget; None if there is no budget.

    The reverse KL to the base is measured on answers to the first PROMPTS prompts.
    """
    config = budget_of(recipe, objective_of(recipe))
    if config is None:
        return None
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    policies = open_policies(recipe, {ADAPTER: folder}, tokenizer, bases)
    answers = AnswerKl.of(recipe, policies, make_encoder(recipe, tokenizer))
    return scaled_from_base(answers, ADAPTER, (ADAPTER,), prompts[:PROMPTS], config, recipe.seed)


def scaled_from_base(
    answers: AnswerKl,
    policy: str,
    modules: Sequence[str],
    prompts: Sequence[Prompt],
    config: BudgetConfig,
    seed: int,
) -> WithinBudget:
    """Scale all modules of a policy down by one strength, until it is within the budget.

    The reverse KL to the base is measured on answers to the prompts.
    """
    limit = limit_of(config, answers, BASE, prompts, seed=seed)
    kl = partial(answers.measure, policy, BASE, prompts, seed=seed)
    return WithinBudget.of(limit, scaled_down(answers.policies.modules, modules, limit, kl))
