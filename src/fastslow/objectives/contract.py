"""What every pairwise objective takes and gives. See docs/papers.md for the table of methods.

Notation of the formulas in this room: s_w, s_l are `policy_chosen` and `policy_rejected`, r_w, r_l
the same under the reference, h = s - r the log-ratio, Delta = h_w - h_l, u = beta * Delta.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Protocol

import torch
from torch import Tensor

from fastslow.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PairLogps:
    """Log-probabilities of B pairs, each summed over the response's tokens (end-of-turn included).

    All tensors have shape [B]; log-probabilities are in nats, lengths in tokens. Gradients flow
    through the policy's only. Raises ValueError when shapes differ.
    """

    policy_chosen: Tensor
    policy_rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_length: Tensor
    rejected_length: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """Per-pair values that only some objectives need, such as a score gap; each [B]."""

    def __post_init__(self) -> None:
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extras"}
        named |= dict(self.extras)
        expected = self.policy_chosen.shape
        if self.policy_chosen.dim() != 1:
            raise ValueError(
                f"policy_chosen has shape {list(expected)}; log-probs come as one sum per pair, "
                "shape [B]"
            )
        for name, tensor in named.items():
            if tensor.shape != expected:
                raise ValueError(
                    f"{name} has shape {list(tensor.shape)} but policy_chosen has shape "
                    f"{list(expected)}; all must be [B]"
                )

    @property
    def policy_margin(self) -> Tensor:
        """m = s_w - s_l, [B], nats, at least float32."""
        return widen(self.policy_chosen) - widen(self.policy_rejected)

    @property
    def reference_margin(self) -> Tensor:
        """m_ref = r_w - r_l, [B], nats, no gradient, at least float32."""
        return widen(self.reference_chosen.detach()) - widen(self.reference_rejected.detach())

    @property
    def chosen_log_ratio(self) -> Tensor:
        """h_w = s_w - r_w, [B], nats, at least float32."""
        return widen(self.policy_chosen) - widen(self.reference_chosen.detach())

    @property
    def rejected_log_ratio(self) -> Tensor:
        """h_l = s_l - r_l, [B], nats, at least float32."""
        return widen(self.policy_rejected) - widen(self.reference_rejected.detach())


@dataclass(frozen=True, slots=True)
class ObjectiveOutput:
    """Per-pair results, all [B], float32 (float64 for float64 input)."""

    loss: Tensor
    """To be averaged over pairs."""
    chosen_reward: Tensor
    """Implicit reward of the chosen response, detached."""
    rejected_reward: Tensor
    """Implicit reward of the rejected response, detached."""


class Objective(Protocol):
    """A pure function from log-probabilities to losses, with its needs declared as data."""

    @property
    def beta(self) -> float:
        """Strength of the pull to the reference, also the inverse temperature of the chase."""

    @property
    def needs_reference(self) -> bool:
        """Whether the loss depends on the reference's log-probs."""

    @property
    def length_normalised(self) -> bool:
        """Whether the loss uses the mean over tokens instead of the sum."""

    def __call__(self, logps: PairLogps) -> ObjectiveOutput: ...


def widen(tensor: Tensor) -> Tensor:
    """The tensor in float32, or unchanged if it is float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def with_rewards(loss: Tensor, logps: PairLogps, beta: float) -> ObjectiveOutput:
    """The loss with the implicit rewards beta * h of the DPO family."""
    return ObjectiveOutput(
        loss=loss,
        chosen_reward=beta * logps.chosen_log_ratio.detach(),
        rejected_reward=beta * logps.rejected_log_ratio.detach(),
    )


def check_positive(name: str, value: float) -> None:
    """Raise ConfigError unless the value is a positive, finite number."""
    if not _is_number(value) or not 0 < value < float("inf"):
        raise ConfigError(f"objective.{name}: got {value!r}; must be a number above 0")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError unless low <= value < high."""
    if not _is_number(value) or not low <= value < high:
        raise ConfigError(
            f"objective.{name}: got {value!r}; must be a number from {low} up to but below {high}"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
