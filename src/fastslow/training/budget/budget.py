"""Limits a run's reverse KL from its start: loosely while it learns, strictly for its final module.

The loss on pairs does not show what a policy says elsewhere: it keeps falling while the policy
forgets how to speak. Two measurements do. Sampled answers show it exactly but take time, so they
decide at the end. The KL of the predictions along a batch's own responses costs one pass and tracks
the former closely, token for token (LOG.md), so it is checked while policies learn.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor

from fastslow.config import BudgetConfig, Recipe
from fastslow.dynamics import LeaderSelector
from fastslow.evaluation import Tried, WithinBudget
from fastslow.objectives import Objective
from fastslow.records import Example, Prompt
from fastslow.scoring import Encoded, Encoder
from fastslow.streams import Reservoir
from fastslow.training.budget.answer_kl import AnswerKl
from fastslow.training.budget.limit import PER_TOKEN, budget_of, limit_of
from fastslow.training.budget.scaling import check_scalable, scaled_down
from fastslow.training.memory.micro_batches import MicroBatches
from fastslow.training.policies.loading import budget_reference
from fastslow.training.policies.policies import Policies
from fastslow.training.state.state import copies

LOOKED_AT = 4
"""Examples of a batch on which predictions are compared."""
FAR = 2.0
"""A module may lead up to this multiple of the limit while it learns: it may come back, and one
slightly beyond at the end loses little when it is scaled down."""
PROMPTS = 48
"""Prompts answered to measure the final module."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The final module, within its budget, and how it was scaled."""

    module: str
    limit: float
    """Nats per answer."""
    tried: tuple[Tried, ...]
    """In the order tried; the last is what was handed over."""
    full: dict[str, Tensor]
    """The weights as learned."""

    @property
    def strength(self) -> float:
        """What the update was multiplied by."""
        return self.tried[-1].strength

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"module": self.module, **asdict(WithinBudget.of(self.limit, self.tried))}


@dataclass(frozen=True, slots=True)
class Kept:
    """Result of checking the modules after a step."""

    beyond: Mapping[str, float]
    """KL as a multiple of the limit, for each module far beyond it."""
    changed: bool
    """Whether the lead has changed hands."""


class Budget:
    """The reverse KL of a run's modules to a reference, and its limit.

    Args:
        config: the limit, and how often it is checked.
        answers: measures policies on their own answers.
        reference: name of the policy that the KL is measured from.
        modules: names of the trained modules.
        micro_batches: splits examples into passes.
        seed: for sampling the kept prompts, and the answers at the end.
    """

    def __init__(
        self,
        config: BudgetConfig,
        answers: AnswerKl,
        *,
        reference: str,
        modules: Sequence[str],
        micro_batches: MicroBatches,
        seed: int,
    ) -> None:
        self._config = config
        self._answers = answers
        self._reference = reference
        self._micro_batches = micro_batches
        self._seed = seed
        self._asked = Reservoir.of_prompts(PROMPTS, seed=seed)
        self._modules = tuple(modules)
        self.each_alone = False
        """Whether every module far beyond the limit is scaled down while it learns, as a lone
        module is, and may still lead: for a learner without an end at which another is handed
        over."""
        self._length: float | None = None
        """Mean length of the reference's answers to the first prompts, in tokens."""

    @property
    def _policies(self) -> Policies:
        return self._answers.policies

    def keep_within(
        self, batch: Sequence[Encoded], selector: LeaderSelector, *, step: int, seed: int
    ) -> Kept:
        """If a check is due, let no module far beyond the limit lead; if all are, or with
        `each_alone`, scale them down to it. Also samples prompts for the measurement at the end."""
        prompts = [_prompt_of(item.example) for item in batch]
        for prompt in prompts:
            self._asked.add(prompt)
        if step % self._config.every:
            return Kept({}, False)
        limit = self._limit_per_token(prompts, seed)
        kls = self._batch_kls(self._modules, batch[:LOOKED_AT])
        beyond = {name: kl / limit for name, kl in kls.items() if not kl <= FAR * limit}
        within = [name for name in selector.modules if name not in beyond]
        if self.each_alone or not within:
            self._pull_back(beyond, batch[:LOOKED_AT], limit)
            within = [*selector.modules]
        return Kept(beyond, selector.allow(within))

    def _pull_back(self, names: Iterable[str], items: Sequence[Encoded], limit: float) -> None:
        """Scale each module down to the limit, separately."""
        for name in names:
            measure = partial(self._batch_kl, name, items)
            scaled_down(self._policies.modules, (name,), limit, measure, start=self._reference)

    def _limit_per_token(self, prompts: Sequence[Prompt], seed: int) -> float:
        per_answer = self._config.reverse_kl
        return PER_TOKEN if per_answer is None else per_answer / self._mean_length(prompts, seed)

    def _mean_length(self, prompts: Sequence[Prompt], seed: int) -> float:
        if self._length is None:
            self._length = self._answers.mean_length(self._reference, prompts, seed=seed)
        return self._length

    def _batch_kl(self, name: str, items: Sequence[Encoded]) -> float:
        return self._batch_kls((name,), items)[name]

    def _batch_kls(self, names: Sequence[str], items: Sequence[Encoded]) -> dict[str, float]:
        """KL of each module's predictions along the examples' responses, nats per token."""
        totals, tokens = dict.fromkeys(names, 0.0), 0
        for group in self._micro_batches.split(items):
            batch = self._policies.batch([item.tree for item in group])
            tokens += int(batch.lengths.sum())
            for name, kl in self._policies.kls(names, self._reference, batch).items():
                totals[name] += kl.cpu().double().sum().item()
        return {name: total / tokens for name, total in totals.items()}

    def limit(self, prompts: Sequence[Prompt | Example], *, seed: int) -> float:
        """The largest allowed reverse KL on the prompts, nats per answer."""
        return limit_of(self._config, self._answers, self._reference, prompts, seed=seed)

    def hand_over(self, name: str) -> HandedOver:
        """Scale a module down to the limit if its answers to the kept prompts are beyond it."""
        modules, answers = self._policies.modules, self._answers
        full = copies(modules.tensors(name))
        prompts, seed, reference = self._asked.examples, self._seed, self._reference
        limit = self.limit(prompts, seed=seed)
        kl = partial(answers.measure, name, reference, prompts, seed=seed)
        tried = scaled_down(modules, (name,), limit, kl, start=reference)
        return HandedOver(name, limit, tuple(tried), full)

    def state(self) -> dict[str, Any]:
        """The mutable state, as JSON."""
        return {"asked": self._asked.state(), "length": self._length}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state()` returned."""
        self._asked.load_state(state["asked"])
        self._length = state["length"]


def _prompt_of(example: Example) -> Prompt:
    kept = {key: getattr(example, key) for key in ("domain", "source", "template_kwargs")}
    return Prompt(example.prompt, **kept)


def make_budget(
    recipe: Recipe,
    objective: Objective,
    policies: Policies,
    encoder: Encoder,
    micro_batches: MicroBatches,
) -> Budget | None:
    """The budget of a run; None where it has none. Raises ConfigError if it cannot be kept."""
    config = budget_of(recipe, objective)
    if config is None:
        return None
    reference = budget_reference(recipe)
    check_scalable(policies.modules, recipe.module_names, reference)
    return Budget(
        config,
        AnswerKl.of(recipe, policies, encoder),
        reference=reference,
        modules=recipe.module_names,
        micro_batches=micro_batches,
        seed=recipe.seed,
    )
