"""Weighted sums of objectives, as in `dpo + 0.2 * sft`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from fastslow.errors import ConfigError
from fastslow.objectives.contract import Objective, ObjectiveOutput

Value = TypeVar("Value")

ANCHOR = "demonstrations"
"""The kind of label that pairs and rankings also provide, by their best response."""


@dataclass(frozen=True, slots=True)
class WeightedSum(Objective):
    """L = sum of weight times loss. Rewards, beta and the chase are those of the first term.

    Raises ConfigError if the terms take different kinds of labels.
    """

    terms: tuple[tuple[float, Objective], ...]

    def __post_init__(self) -> None:
        kinds = {objective.takes for _, objective in self.terms} - {ANCHOR}
        if len(kinds) > 1 or (len(self.terms) > 1 and kinds == {"ratings"} and self._anchored):
            raise ConfigError(
                f"objective.name: terms of a sum must take the same labels; these take "
                f"{' and '.join(sorted({o.takes for o in self._objectives}))}. sft may "
                "be added to all but ratings"
            )

    @property
    def _objectives(self) -> list[Objective]:
        return [objective for _, objective in self.terms]

    @property
    def beta(self) -> float:  # type: ignore[override]
        return self._objectives[0].beta

    @property
    def per_token(self) -> bool:  # type: ignore[override]
        return self._objectives[0].per_token

    @property
    def chase_beta(self) -> float:
        return self._objectives[0].chase_beta

    @property
    def chase_scale(self) -> float:
        weight, first = self.terms[0]
        return weight * first.chase_scale

    @property
    def takes(self) -> str:  # type: ignore[override]
        return next((o.takes for o in self._objectives if o.takes != ANCHOR), ANCHOR)

    @property
    def _anchored(self) -> bool:
        return any(objective.takes == ANCHOR for objective in self._objectives)

    @property
    def needs_reference(self) -> bool:  # type: ignore[override]
        return any(objective.needs_reference for objective in self._objectives)

    @property
    def needs_lengths(self) -> bool:  # type: ignore[override]
        return any(objective.needs_lengths for objective in self._objectives)

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple({name: None for objective in self._objectives for name in objective.needs})

    @property
    def coupled(self) -> bool:  # type: ignore[override]
        return any(objective.coupled for objective in self._objectives)

    @property
    def on_policy(self) -> bool:  # type: ignore[override]
        return any(objective.on_policy for objective in self._objectives)

    @property
    def learns_ties(self) -> bool:  # type: ignore[override]
        return all(objective.learns_ties for objective in self._objectives)

    def __call__(self, logps: Any) -> ObjectiveOutput:
        of_terms = zip(self._objectives, self._inputs(logps), strict=True)
        outputs = [objective(own) for objective, own in of_terms]
        loss = self._total([output.loss for output in outputs])
        return ObjectiveOutput(loss, outputs[0].chosen_reward, outputs[0].rejected_reward)

    def opposite_loss(self, logps: Any) -> Tensor:
        of_terms = zip(self._objectives, self._inputs(logps), strict=True)
        return self._total([objective.opposite_loss(own) for objective, own in of_terms])

    def _inputs(self, logps: Any) -> list[Any]:
        """What each term is called with."""
        if not self.learns_ties:
            # No term may learn ties if the others cannot.
            logps = replace(logps, extras={k: v for k, v in logps.extras.items() if k != "tie"})
        return [replace(logps, state=_part(logps.state, i)) for i in range(len(self.terms))]

    def _total(self, losses: Sequence[Tensor]) -> Tensor:
        """The weighted sum of the terms' losses, [B]."""
        weighted = [weight * loss for (weight, _), loss in zip(self.terms, losses, strict=True)]
        return sum(weighted[1:], weighted[0])

    def initial_state(self) -> dict[str, float]:
        return _joined([objective.initial_state() for objective in self._objectives])

    def observe(self, logps: Any) -> dict[str, Tensor]:
        return _joined([objective.observe(logps) for objective in self._objectives])

    def advance(
        self, state: Mapping[str, float], sums: Mapping[str, float], count: int
    ) -> dict[str, float]:
        return _joined(
            [
                objective.advance(_part(state, i), _part(sums, i), count)
                for i, objective in enumerate(self._objectives)
            ]
        )


def _joined(parts: list[dict[str, Value]]) -> dict[str, Value]:
    return {f"{i}.{key}": value for i, part in enumerate(parts) for key, value in part.items()}


def _part(whole: Mapping[str, Value], index: int) -> dict[str, Value]:
    start = f"{index}."
    return {key.removeprefix(start): v for key, v in whole.items() if key.startswith(start)}
