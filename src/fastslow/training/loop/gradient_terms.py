"""Gradient terms of a step besides the objective: a critic, an online KL, an anchor.

Each gets the batch and the trained modules, differentiates its own loss, and returns its metrics by
module.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fastslow.scoring import Encoded
from fastslow.training.loop.anchor import WeightAnchor
from fastslow.training.on_policy.critic import Critic
from fastslow.training.on_policy.online_kl import OnlineKl
from fastslow.training.policies.loading import CRITIC

Metrics = Mapping[str, Mapping[str, float]]
"""By module."""


@dataclass(frozen=True, slots=True)
class TermContext:
    """What a term may need of the step."""

    batch: Sequence[Encoded]
    updating: tuple[str, ...]
    """Names of the modules that learn."""
    seed: int
    """Of the step's random numbers."""
    backward: Callable[[Tensor], None]


class GradientTerm(Protocol):
    """Adds gradients to a step."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that learn from this term alone."""
        ...

    @property
    def summed(self) -> bool:
        """Whether each process adds its share's part, to be summed, or all of them the same."""
        ...

    def add_gradients(self, context: TermContext) -> Metrics:
        """Differentiate; what was measured, by module."""
        ...


@dataclass(frozen=True, slots=True)
class CriticTerm:
    """The loss of the critic's values."""

    critic: Critic
    modules: tuple[str, ...] = (CRITIC,)
    summed: bool = True

    def add_gradients(self, context: TermContext) -> Metrics:
        """The critic's loss, and the share of the returns' variance that it explains."""
        return {CRITIC: self.critic.add_gradients(context.batch, backward=context.backward)}


@dataclass(frozen=True, slots=True)
class OnlineKlTerm:
    """The reverse KL to the reference on new completions to the batch's prompts (HyPO)."""

    online_kl: OnlineKl
    reference: str
    modules: tuple[str, ...] = ()
    summed: bool = True

    def add_gradients(self, context: TermContext) -> Metrics:
        """KL (nats per completion) and mean completion length (tokens) of each module."""
        return self.online_kl.add_gradients(
            context.updating,
            context.batch,
            reference=self.reference,
            seed=context.seed,
            backward=context.backward,
        )


@dataclass(frozen=True, slots=True)
class AnchorTerm:
    """The pull to the weights that the modules started from."""

    anchor: WeightAnchor
    modules: tuple[str, ...] = ()
    summed: bool = False

    def add_gradients(self, context: TermContext) -> Metrics:
        """Nothing is measured."""
        penalties = [self.anchor.penalty(name) for name in context.updating]
        context.backward(torch.stack(penalties).sum())
        return {}
