"""The methods of `fastslow bench online` and the settings that each chooses from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Setting = Mapping[str, Any]
"""Overrides of a recipe, by dotted key."""


@dataclass(frozen=True, slots=True)
class Method:
    """What a method learns from, and the settings to choose from; without tuning, the first."""

    data: str
    """`full` or `narrow` pairs; answers of its own in `rounds`, or `fresh` in every step."""
    grid: Sequence[Setting]
    against: str | None = None
    """The method that it is compared with, seed by seed, which has as many settings."""


def _grid(rates: Sequence[float], **others: Sequence[Any]) -> list[Setting]:
    settings: list[Setting] = [{"train.learning_rate": rate} for rate in rates]
    for key, values in others.items():
        settings = [
            {**setting, key.replace("__", "."): value} for setting in settings for value in values
        ]
    return settings


def _of_rewards(name: str) -> dict[str, tuple[Any]]:
    """An objective that maximises rewards; its beta is not DPO's and has its own value."""
    return {"objective__name": (name,), "objective__beta": (0.05,)}


RATES = (1e-3, 3e-3)
# What regularises each: DPO's beta, the weight of HyPO's KL term.
DPO = _grid(RATES, objective__beta=(0.1, 0.3))
HYPO = _grid(RATES, online_kl__weight=(0.01, 0.03))
PASSES_A_ROUND = (1, 2, 4, 8)
"""From far too few to convergence."""
RISING = {"rounds__beta": ([0.01, 0.1, 1.0],), "train__epochs": (2, 8)}
PASSES = {"online__steps_per_generation": (2,), "online__num_iterations": (4,)}
MANY_PASSES = {"online__steps_per_generation": (2,), "online__num_iterations": (10,)}
METHODS: Mapping[str, Method] = {
    "dpo": Method("full", DPO),
    "hypo": Method("full", HYPO, "dpo"),
    "dpo, narrow pairs": Method("narrow", DPO),
    "hypo, narrow pairs": Method("narrow", HYPO, "dpo, narrow pairs"),
    "iterative dpo": Method("rounds", _grid((1e-3,), train__epochs=PASSES_A_ROUND)),
    "apo": Method(
        "rounds", _grid((1e-3,), train__epochs=(2, 8), rounds__momentum=(0.3, 0.6)), "iterative dpo"
    ),
    "iterative dpo, rising beta": Method("rounds", _grid((1e-3,), **RISING)),
    "apo, rising beta": Method(
        "rounds",
        _grid((1e-3,), **RISING, rounds__momentum=(0.3,)),
        "iterative dpo, rising beta",
    ),
    "sppo": Method(
        "rounds",
        _grid(
            RATES,
            objective__name=("sppo",),
            objective__targets=("probabilities",),
            objective__beta=(0.1,),
            train__epochs=(1, 2),
        ),
        "iterative dpo",
    ),
    "online dpo": Method("fresh", _grid(RATES)),
    "rloo": Method("fresh", _grid(RATES, **_of_rewards("rloo")), "online dpo"),
    "ppo": Method("fresh", _grid(RATES, **_of_rewards("ppo"), **PASSES), "rloo"),
    "espo": Method("fresh", _grid((3e-4, 1e-3), **_of_rewards("espo"), **MANY_PASSES), "ppo"),
    "espo, ratios to 0.05": Method(
        "fresh",
        _grid(RATES, **_of_rewards("espo"), objective__max_deviation=(0.05,), **MANY_PASSES),
        "ppo",
    ),
}
