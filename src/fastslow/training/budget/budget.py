"""Keeps what a run learns within a reverse KL of where it started, and what it hands over for sure.

Pairs do not show what a policy says off them: its loss falls on while it forgets how to speak. Two
things do. Answers that it samples show it exactly and cost time. The KL of its predictions along
the batch's own responses costs two passes and follows the other closely, token for token, so it is
what is looked at while the policy learns; only where it is beyond the budget is the policy asked,
which also tells how far the two are apart here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from fastslow.config import BudgetConfig, Recipe
from fastslow.dynamics import LeaderSelector
from fastslow.evaluation import Tried
from fastslow.objectives import Objective
from fastslow.records import Example
from fastslow.scoring import Encoded, Encoder
from fastslow.streams import Reservoir
from fastslow.training.budget.answer_kl import AnswerKl
from fastslow.training.budget.limit import PER_TOKEN, budget_facts, budget_of, limit_of
from fastslow.training.budget.scaling import scaled_down
from fastslow.training.memory.micro_batches import MicroBatches
from fastslow.training.policies.loading import budget_reference
from fastslow.training.policies.policies import Policies

LOOKED_AT = 8
"""Examples of a batch whose predictions are compared."""
ASKED = 16
"""Prompts that are answered while a policy learns."""
PROMPTS = 64
"""Prompts that are answered when it is handed over."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A policy that is within its budget, and how it came to be."""

    module: str
    limit: float
    """Nats per answer."""
    tried: tuple[Tried, ...]
    """In the order of trying; the last is what was handed over."""
    full: dict[str, Tensor]
    """The weights that were learned."""

    @property
    def strength(self) -> float:
        """What the update was multiplied by."""
        return self.tried[-1].strength

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"module": self.module, **budget_facts(self.limit, self.tried)}


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of looking at the modules after a step."""

    beyond: Mapping[str, float]
    """The KL over the limit of those that were beyond it."""
    changed: bool
    """Whether the lead has changed hands."""


class Budget:
    """The reverse KL of a run's modules to a reference, and its limit.

    Args:
        config: the limit, and how often is looked.
        answers: measures policies by what they answer.
        reference: name of the policy that the KL is measured from.
        modules: names of the trained ones.
        micro_batches: examples of one pass.
        seed: of the prompts that are kept, and of the answers at the end.
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
        self._asked = Reservoir(PROMPTS, seed=seed)
        self._ratio = dict.fromkeys(modules, 1.0)
        """Of the KL along answers to what was looked at, when last compared."""
        self._length: float | None = None

    @property
    def _policies(self) -> Policies:
        return self._answers.policies

    def keep_within(
        self, batch: Sequence[Encoded], selector: LeaderSelector, *, step: int, seed: int
    ) -> Kept:
        """Where that is due, let no module lead that is beyond the limit; if all are, scale all
        down to it. The batch's prompts may be asked at the end."""
        for item in batch:
            self._asked.add(item.example)
        if step % self._config.every:
            return Kept({}, False)
        beyond = self._beyond(batch, seed)
        within = [name for name in selector.modules if name not in beyond]
        if not within:
            self._pull_back(batch, seed)
        return Kept(beyond, selector.allow(within or selector.modules))

    def _beyond(self, batch: Sequence[Encoded], seed: int) -> dict[str, float]:
        looked_at, asked = batch[:LOOKED_AT], [item.example for item in batch[:ASKED]]
        limit, found = self._limit_per_token(asked, seed), {}
        for name, ratio in self._ratio.items():
            near = self._near(name, looked_at)
            if near * ratio <= limit:
                continue
            kl = self._answers.measure(name, self._reference, asked, seed=seed)
            per_token = kl / self._mean_length(asked, seed)
            self._ratio[name] = per_token / near
            if not per_token <= limit:
                found[name] = per_token / limit
        return found

    def _pull_back(self, batch: Sequence[Encoded], seed: int) -> None:
        """Scale all modules down to the limit."""
        looked_at, asked = batch[:LOOKED_AT], [item.example for item in batch[:ASKED]]
        limit, modules = self._limit_per_token(asked, seed), self._policies.modules
        for name in self._ratio:
            estimate = partial(self._estimate, name, looked_at)
            scaled_down(modules, (name,), limit, estimate, start=self._reference)

    def _limit_per_token(self, asked: Sequence[Example], seed: int) -> float:
        given = self._config.reverse_kl
        return PER_TOKEN if given is None else given / self._mean_length(asked, seed)

    def _mean_length(self, asked: Sequence[Example], seed: int) -> float:
        """Of the reference's answers, tokens, found out when it is first needed."""
        if self._length is None:
            self._length = self._answers.mean_length(self._reference, asked, seed=seed)
        return self._length

    def _estimate(self, name: str, items: Sequence[Encoded]) -> float:
        """The KL along answers that a module would give, nats per token."""
        return self._ratio[name] * self._near(name, items)

    def _near(self, name: str, items: Sequence[Encoded]) -> float:
        """The KL of the predictions along some examples' own responses, nats per token."""
        total, tokens = 0.0, 0
        for some in self._micro_batches.split(items):
            batch = self._policies.batch([item.tree for item in some])
            kl = self._policies.kl(name, self._reference, batch)
            total += kl.cpu().double().sum().item()
            tokens += int(batch.lengths.sum())
        return total / tokens

    def hand_over(self, name: str) -> HandedOver:
        """Scale a module down to the limit, if it is beyond it, by answers to kept prompts."""
        modules, answers = self._policies.modules, self._answers
        full = {key: tensor.clone() for key, tensor in modules.tensors(name).items()}
        prompts, seed, reference = self._asked.examples, self._seed, self._reference
        limit = limit_of(self._config, answers, reference, prompts, seed=seed)
        kl = partial(answers.measure, name, reference, prompts, seed=seed)
        tried = scaled_down(modules, (name,), limit, kl, start=reference)
        return HandedOver(name, limit, tuple(tried), full)

    def state(self) -> dict[str, Any]:
        """What changes, as JSON."""
        return {
            "asked": self._asked.state(),
            "ratio": dict(self._ratio),
            "length": self._length,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up where `state()` was taken."""
        self._asked.load_state(state["asked"])
        self._ratio = dict(state["ratio"])
        self._length = state["length"]


def make_budget(
    recipe: Recipe,
    objective: Objective,
    policies: Policies,
    encoder: Encoder,
    micro_batches: MicroBatches,
) -> Budget | None:
    """The budget of a run; None where it has none."""
    config = budget_of(recipe, objective)
    if config is None:
        return None
    return Budget(
        config,
        AnswerKl.of(recipe, policies, encoder),
        reference=budget_reference(recipe),
        modules=recipe.module_names,
        micro_batches=micro_batches,
        seed=recipe.seed,
    )
