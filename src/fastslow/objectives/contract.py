"""Interface of all objectives: inputs, outputs, needs. The table of methods is in docs/papers.md.

Notation of formulas in this package: s_w, s_l are `policy_chosen` and `policy_rejected`, r_w, r_l
the same under the reference, h = s - r the log-ratio, Delta = h_w - h_l, u = beta * Delta.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastslow.objectives.containers import PairLogps, widen


@dataclass(frozen=True, slots=True)
class ObjectiveOutput:
    """Per-pair results, all [B], float32 (float64 for float64 input)."""

    loss: Tensor
    """To be averaged over pairs."""
    chosen_reward: Tensor
    """Implicit reward of the chosen response, detached."""
    rejected_reward: Tensor
    """Implicit reward of the rejected response, detached."""


class Objective:
    """A pure function from log-probabilities to losses, with its needs declared as data.

    Subclasses are frozen dataclasses whose fields are their settings, including `beta`. They
    override the defaults below where they differ.
    """

    beta: float
    """Strength of the pull to the reference."""
    takes = "pairs"
    """Key of `CONTAINERS`: the class of its input."""
    needs_reference = True
    """Whether the loss depends on the reference's log-probs."""
    needs_lengths = False
    """Whether the loss depends on the lengths of responses."""
    needs: tuple[str, ...] = ()
    """Names of the required `extras`."""
    learns_ties = False
    """Whether pairs without a preference (`extras["tie"]`) are used."""
    on_policy = False
    """Whether the loss is meaningful only for the policy's own answers; held-out pairs are then
    evaluated with DPO's."""
    coupled = False
    """Whether the loss of a pair depends on the other pairs of its batch."""
    per_token = False
    """Whether responses are compared by mean log-prob per token instead of the sum."""

    @property
    def chase_beta(self) -> float:
        """Inverse temperature of the gap between two modules' margins, 1 / nats."""
        return self.beta

    @property
    def chase_scale(self) -> float:
        """Factor on the chase, so that its slope in the margin at the reference is about alpha
        times this loss's own; 1 for -logsigmoid(beta Delta) and similar losses."""
        return 1.0

    def chase_margin(self, logps: Any) -> Tensor:
        """The policy's margin as this loss compares responses, [B], nats or nats per token."""
        margin: Tensor = logps.policy_mean_margin if self.per_token else logps.policy_margin
        return margin

    def __call__(self, logps: Any) -> ObjectiveOutput:
        """Losses and rewards, [B]; `logps` is of the class that `takes` names."""
        raise NotImplementedError

    def opposite_loss(self, logps: Any) -> Tensor:
        """Losses of pairs under the opposite label, [B]. One that depends on the other pairs of
        the batch is to take those as they are labelled."""
        return self(logps.swapped()).loss

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Metrics of a batch for the log, from the sums that `observe` returns."""
        return {}

    def exceeds_max_ratio(self, metrics: Mapping[str, float]) -> bool:
        """Whether, by these `metrics`, the policy is too far off to learn more from its answers."""
        return False

    # Running statistics: the state of some objectives between optimiser steps. It is explicit, so
    # that it can be saved, shared between processes and left unchanged in evaluation.

    def initial_state(self) -> dict[str, float]:
        """State before the first step; empty for objectives without running statistics."""
        return {}

    def observe(self, logps: Any) -> dict[str, Tensor]:
        """Sums over a batch, scalars without gradient, from which the state advances."""
        return {}

    def advance(
        self, state: Mapping[str, float], sums: Mapping[str, float], count: int
    ) -> dict[str, float]:
        """The state after a step over `count` pairs; `sums` may cover many micro-batches."""
        return dict(state)


def with_rewards(loss: Tensor, logps: PairLogps, beta: float) -> ObjectiveOutput:
    """The loss with the implicit rewards beta * h of the DPO family."""
    return ObjectiveOutput(
        loss=loss,
        chosen_reward=beta * logps.chosen_log_ratio.detach(),
        rejected_reward=beta * logps.rejected_log_ratio.detach(),
    )


def with_policy_rewards(loss: Tensor, logps: PairLogps, beta: float) -> ObjectiveOutput:
    """The loss with the rewards beta * s of objectives without a reference."""
    return ObjectiveOutput(
        loss=loss,
        chosen_reward=beta * widen(logps.policy_chosen.detach()),
        rejected_reward=beta * widen(logps.policy_rejected.detach()),
    )
