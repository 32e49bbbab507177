"""Pairwise preference losses: PairLogps in, ObjectiveOutput out. Imports torch alone.

An objective sees vectors of length B, never a model. To add one, write a file and a table line.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from fastslow.errors import ConfigError
from fastslow.objectives.contract import Objective, ObjectiveOutput, PairLogps
from fastslow.objectives.dpo import Dpo, ReferenceFree, RobustDpo
from fastslow.objectives.hinge import Hinge
from fastslow.objectives.ipo import Ipo

__all__ = [
    "Objective",
    "ObjectiveOutput",
    "PairLogps",
    "make_objective",
    "objective_names",
    "objective_problems",
]

_OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "dpo": Dpo,
    "hinge": Hinge,
    "ipo": Ipo,
    "reference_free": ReferenceFree,
    "robust_dpo": RobustDpo,
}


def objective_names() -> tuple[str, ...]:
    """The names `make_objective` knows, sorted."""
    return tuple(sorted(_OBJECTIVES))


def make_objective(name: str, **hyper: Any) -> Objective:
    """The objective of that name with the given settings.

    Raises ConfigError for an unknown name or setting, or a value out of range.

    >>> make_objective("dpo", beta=0.5)
    Dpo(beta=0.5, label_smoothing=0.0)
    """
    if name not in _OBJECTIVES:
        raise ConfigError(
            f"objective.name: there is no {name!r}{_suggest(name, objective_names())}"
        )
    kind: Any = _OBJECTIVES[name]
    known = [f.name for f in fields(kind)]
    unknown = [key for key in hyper if key not in known]
    if unknown:
        raise ConfigError(
            *(
                f"objective.{key}: {name} has no such setting{_suggest(key, known)}"
                for key in unknown
            )
        )
    objective: Objective = kind(**hyper)
    return objective


def objective_problems(raw: Mapping[str, Any]) -> list[str]:
    """Faults in the `objective` section of a raw recipe, one line each."""
    section = raw.get("objective", {})
    if not isinstance(section, Mapping):
        return []
    settings = dict(section)
    name = settings.pop("name", "dpo")
    if not isinstance(name, str):
        return []
    settings = {str(key): value for key, value in settings.items()}
    try:
        make_objective(name, **settings)
    except ConfigError as error:
        return list(error.problems)
    return []


def _suggest(given: str, allowed: tuple[str, ...] | list[str]) -> str:
    close = get_close_matches(given, allowed, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed are {', '.join(allowed)}"
