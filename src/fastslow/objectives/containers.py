"""Inputs of objectives: the log-probs of each kind of example, with their labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PairLogps:
    """Log-probabilities of B pairs, each summed over the response's tokens (end-of-turn included).

    All tensors have shape [B]; log-probabilities are in nats, lengths in tokens. Gradients flow
    only through the policy's. Raises ValueError when shapes differ.
    """

    policy_chosen: Tensor
    policy_rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_length: Tensor
    rejected_length: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """Per-pair values that only some objectives need, such as a score gap; each [B]."""
    state: Mapping[str, float] = field(default_factory=dict)
    """Running statistics from earlier steps; empty before the first."""

    def __post_init__(self) -> None:
        _check_shapes(self, "policy_chosen", dim=1, form="[B]")

    def swapped(self) -> "PairLogps":
        """The same pairs with chosen and rejected swapped."""
        return replace(
            self,
            policy_chosen=self.policy_rejected,
            policy_rejected=self.policy_chosen,
            reference_chosen=self.reference_rejected,
            reference_rejected=self.reference_chosen,
            chosen_length=self.rejected_length,
            rejected_length=self.chosen_length,
            extras=dict(_other_side(name, values) for name, values in self.extras.items()),
        )

    def sides(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Log-probs and log-ratios, nats, of the `chosen` and the `rejected` responses."""
        return {
            "chosen": (self.policy_chosen, self.chosen_log_ratio),
            "rejected": (self.policy_rejected, self.rejected_log_ratio),
        }

    @property
    def policy_margin(self) -> Tensor:
        """m = s_w - s_l, [B], nats, at least float32."""
        return widen(self.policy_chosen) - widen(self.policy_rejected)

    @property
    def reference_margin(self) -> Tensor:
        """m_ref = r_w - r_l, [B], nats, no gradient, at least float32."""
        return widen(self.reference_chosen.detach()) - widen(self.reference_rejected.detach())

    @property
    def delta(self) -> Tensor:
        """Delta = m - m_ref, [B], nats, at least float32."""
        return self.policy_margin - self.reference_margin

    @property
    def chosen_mean(self) -> Tensor:
        """s_w / n_w, [B], nats per token, at least float32."""
        return widen(self.policy_chosen) / widen(self.chosen_length)

    @property
    def rejected_mean(self) -> Tensor:
        """s_l / n_l, [B], nats per token, at least float32."""
        return widen(self.policy_rejected) / widen(self.rejected_length)

    @property
    def policy_mean_margin(self) -> Tensor:
        """s_w / n_w - s_l / n_l, [B], nats per token, at least float32."""
        return self.chosen_mean - self.rejected_mean

    @property
    def chosen_log_ratio(self) -> Tensor:
        """h_w = s_w - r_w, [B], nats, at least float32."""
        return widen(self.policy_chosen) - widen(self.reference_chosen.detach())

    @property
    def rejected_log_ratio(self) -> Tensor:
        """h_l = s_l - r_l, [B], nats, at least float32."""
        return widen(self.policy_rejected) - widen(self.reference_rejected.detach())


@dataclass(frozen=True, slots=True)
class RankedLogps:
    """Log-probabilities of B prompts with up to K responses each, ordered by preference.

    All tensors have shape [B, K], the best response first. Log-probabilities are summed over the
    response's tokens, in nats, lengths in tokens; where a prompt has fewer responses, the rest is
    not `present` and has no meaning. Raises ValueError when shapes differ.
    """

    policy: Tensor
    reference: Tensor
    length: Tensor
    rank: Tensor
    """0 for the best; equal responses have equal ranks. Rising along each row."""
    present: Tensor
    """Bool."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """Per-response values that only some objectives need, such as a score; each [B, K]."""
    state: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_shapes(self, "policy", dim=2, form="[B, K]")

    @property
    def log_ratio(self) -> Tensor:
        """h = s - r, [B, K], nats, at least float32; 0 where there is no response."""
        ratio = widen(self.policy) - widen(self.reference.detach())
        return torch.where(self.present, ratio, 0.0)

    @property
    def policy_chosen(self) -> Tensor:
        """The best response's s, [B], nats."""
        return self.policy[:, 0]

    @property
    def chosen_length(self) -> Tensor:
        """The best response's n, [B], tokens."""
        return self.length[:, 0]

    @property
    def chosen_mean(self) -> Tensor:
        """The best response's s / n, [B], nats per token."""
        return widen(self.policy[:, 0]) / widen(self.chosen_length)

    def sides(self) -> dict[str, tuple[Tensor, Tensor]]:
        """As for pairs: the best responses against all others of the batch."""
        rest = self.present.clone()
        rest[:, 0] = False
        return {
            "chosen": (self.policy[:, 0], self.log_ratio[:, 0]),
            "rejected": (self.policy[rest], self.log_ratio[rest]),
        }

    @property
    def policy_margin(self) -> Tensor:
        """The best response's s minus the mean of the others', [B], nats."""
        return self._best_over_rest(widen(self.policy))

    @property
    def policy_mean_margin(self) -> Tensor:
        """The same with means per token, [B]."""
        return self._best_over_rest(widen(self.policy) / widen(self.length).clamp(min=1))

    @property
    def delta(self) -> Tensor:
        """The same with h, [B], nats."""
        return self._best_over_rest(self.log_ratio)

    def rest_mean(self, values: Tensor) -> Tensor:
        """Mean of values, [B, K], over each prompt's responses except the best, [B]."""
        rest = self.present[:, 1:]
        return torch.where(rest, values[:, 1:], 0.0).sum(1) / rest.sum(1).clamp(min=1)

    def _best_over_rest(self, values: Tensor) -> Tensor:
        return values[:, 0] - self.rest_mean(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogps(RankedLogps):
    """The same with each token of the policy's own answers.

    Tensors of tokens are [B, K, T], log-probs in nats.
    """

    policy_tokens: Tensor
    """Log-probs; an answer's sum is `policy`."""
    sampled_tokens: Tensor
    """Log-probs under the policy that sampled the answers."""
    advantage: Tensor
    """How much better each token was than expected."""
    token_present: Tensor
    """Bool."""

    def __post_init__(self) -> None:
        expected = self.policy_tokens.shape
        for name in ("sampled_tokens", "advantage", "token_present"):
            if getattr(self, name).shape != expected:
                raise ValueError(
                    f"{name} has shape {list(getattr(self, name).shape)} but policy_tokens has "
                    f"shape {list(expected)}; all must be [B, K, T]"
                )


@dataclass(frozen=True, slots=True)
class RatedLogps:
    """Log-probabilities of B single responses, each liked or not.

    All tensors have shape [B]; sums over tokens in nats, lengths in tokens. Raises ValueError when
    shapes differ.
    """

    policy: Tensor
    reference: Tensor
    length: Tensor
    desirable: Tensor
    """Bool."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_shapes(self, "policy", dim=1, form="[B]")

    @property
    def log_ratio(self) -> Tensor:
        """h = s - r, [B], nats, at least float32."""
        return widen(self.policy) - widen(self.reference.detach())

    @property
    def chosen_length(self) -> Tensor:
        """n of the liked responses, tokens; fewer than B unless all were liked."""
        return self.length[self.desirable]

    def sides(self) -> dict[str, tuple[Tensor, Tensor]]:
        """As for pairs: liked responses against the others."""
        liked = self.desirable
        return {
            "chosen": (self.policy[liked], self.log_ratio[liked]),
            "rejected": (self.policy[~liked], self.log_ratio[~liked]),
        }

    @property
    def policy_margin(self) -> Tensor:
        """s where liked, -s where not, [B], nats."""
        return self._signed(widen(self.policy))

    @property
    def policy_mean_margin(self) -> Tensor:
        """The same of means per token, [B]."""
        return self._signed(widen(self.policy) / widen(self.length))

    @property
    def delta(self) -> Tensor:
        """h where liked, -h where not, [B], nats."""
        return self._signed(self.log_ratio)

    def _signed(self, values: Tensor) -> Tensor:
        return torch.where(self.desirable, values, -values)


@dataclass(frozen=True, slots=True)
class DemonstrationLogps:
    """Log-probabilities of B demonstrated responses, named like the chosen side of pairs.

    All tensors have shape [B]; sums over tokens in nats, lengths in tokens. Raises ValueError when
    shapes differ.
    """

    policy_chosen: Tensor
    reference_chosen: Tensor
    chosen_length: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_shapes(self, "policy_chosen", dim=1, form="[B]")

    @property
    def chosen_mean(self) -> Tensor:
        """s / n, [B], nats per token, at least float32."""
        return widen(self.policy_chosen) / widen(self.chosen_length)

    def sides(self) -> dict[str, tuple[Tensor, Tensor]]:
        """As for the chosen side of pairs."""
        return {"chosen": (self.policy_chosen, self.delta)}

    @property
    def policy_margin(self) -> Tensor:
        """s, [B], nats: there is no other side."""
        return widen(self.policy_chosen)

    @property
    def policy_mean_margin(self) -> Tensor:
        """s / n, [B], nats per token."""
        return self.chosen_mean

    @property
    def delta(self) -> Tensor:
        """h = s - r, [B], nats."""
        return widen(self.policy_chosen) - widen(self.reference_chosen.detach())


CONTAINERS = {
    "pairs": PairLogps,
    "rankings": RankedLogps,
    "tokens": TokenLogps,
    "ratings": RatedLogps,
    "demonstrations": DemonstrationLogps,
}
"""Input classes of objectives, by the name in `Objective.takes`."""


def _other_side(name: str, values: Tensor) -> tuple[str, Tensor]:
    """An extra's name and values after chosen and rejected are swapped."""
    for side, other in (("chosen_", "rejected_"), ("rejected_", "chosen_")):
        if name.startswith(side):
            return other + name.removeprefix(side), values
    return name, -values if name == "score_gap" else values


def _check_shapes(logps: Any, first: str, *, dim: int, form: str) -> None:
    named = {f.name: getattr(logps, f.name) for f in fields(logps)}
    extras = named.pop("extras")
    del named["state"]
    expected = named[first].shape
    if len(expected) != dim:
        raise ValueError(
            f"{first} has shape {list(expected)}; log-probs come as one sum per response, "
            f"shape {form}"
        )
    for name, tensor in {**named, **extras}.items():
        if tensor.shape != expected:
            raise ValueError(
                f"{name} has shape {list(tensor.shape)} but {first} has shape "
                f"{list(expected)}; all must be {form}"
            )


def needed(logps: Any, name: str) -> Tensor:
    """One of the extras. Raises ValueError if it is missing."""
    if name not in logps.extras:
        there = ", ".join(logps.extras) or "none"
        raise ValueError(f"this objective needs extras[{name!r}], [B]; the extras are: {there}")
    return widen(logps.extras[name].detach())


def widen(tensor: Tensor) -> Tensor:
    """The tensor in float32, or unchanged if it is float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
