"""How strong an adapter in a folder may be, within a recipe's budget from the base."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fastslow.adapters import BASE, load_tokenizer
from fastslow.config import Recipe
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
    """The strength at which it is within; None where the recipe has no budget.

    The reverse KL is that to the base, on answers to the first of some prompts.
    """
    config = budget_of(recipe, objective_of(recipe))
    if config is None:
        return None
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    policies = open_policies(recipe, {ADAPTER: folder}, tokenizer, bases)
    answers = AnswerKl.of(recipe, policies, make_encoder(recipe, tokenizer))
    asked = prompts[:PROMPTS]
    limit = limit_of(config, answers, BASE, asked, seed=recipe.seed)
    kl = partial(answers.measure, ADAPTER, BASE, asked, seed=recipe.seed)
    return WithinBudget.of(limit, scaled_down(policies.modules, (ADAPTER,), limit, kl))
