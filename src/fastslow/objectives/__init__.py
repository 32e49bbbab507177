"""Preference losses: log-probabilities and labels in, ObjectiveOutput out. Imports only torch.

An objective sees tensors of sums over tokens, never a model. To add one, write a file and a line in
the table below; docs/architecture.md lists the other steps.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any

from fastslow.errors import ConfigError, did_you_mean, shown
from fastslow.objectives.aipo import Aipo
from fastslow.objectives.alpha_dpo import AlphaDpo
from fastslow.objectives.anchored import AnchoredDown, AnchoredZero
from fastslow.objectives.beta_dpo import BetaDpo
from fastslow.objectives.chi_po import ChiPo
from fastslow.objectives.containers import (
    CONTAINERS,
    DemonstrationLogps,
    PairLogps,
    RankedLogps,
    RatedLogps,
    TokenLogps,
)
from fastslow.objectives.contract import Objective, ObjectiveOutput
from fastslow.objectives.cpo import Cpo
from fastslow.objectives.custom import FunctionObjective, check_class, objectives_in
from fastslow.objectives.discopop import Discopop
from fastslow.objectives.dpo import Dpo, ReferenceFree, RobustDpo
from fastslow.objectives.dpop import Dpop
from fastslow.objectives.exo import Exo
from fastslow.objectives.hinge import Hinge
from fastslow.objectives.ipo import Ipo
from fastslow.objectives.length_normalised import LengthNormalisedDpo
from fastslow.objectives.mallows import Mallows, MallowsPhi
from fastslow.objectives.minor_dpo import MinorDpo
from fastslow.objectives.mpo import Mpo
from fastslow.objectives.nca import Nca
from fastslow.objectives.odpo import Odpo
from fastslow.objectives.orpo import Orpo
from fastslow.objectives.ppo import ActorCritic, Espo, Ppo
from fastslow.objectives.r_dpo import RDpo
from fastslow.objectives.rankings import PlackettLuce, RankedExo, SoftmaxDpo
from fastslow.objectives.ratings import Bco, Kto
from fastslow.objectives.rloo import Rloo
from fastslow.objectives.rpo import Rpo
from fastslow.objectives.settings import check_not_negative
from fastslow.objectives.sft import Sft
from fastslow.objectives.simpo import Simpo
from fastslow.objectives.sppo import Sppo
from fastslow.objectives.ties import Davidson, RaoKupper
from fastslow.objectives.weighted import WeightedSum
from fastslow.objectives.wpo import Wpo
from fastslow.plugins import own_code
from fastslow.trl_losses import what_is

__all__ = [
    "CONTAINERS",
    "ActorCritic",
    "DemonstrationLogps",
    "FunctionObjective",
    "Objective",
    "ObjectiveOutput",
    "PairLogps",
    "RankedLogps",
    "RatedLogps",
    "TokenLogps",
    "WeightedSum",
    "as_objective",
    "make_objective",
    "objective_kinds",
    "objective_names",
    "objective_problems",
    "objective_settings",
    "setting_names",
]

_OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "aipo": Aipo,
    "alpha_dpo": AlphaDpo,
    "anchored_down": AnchoredDown,
    "anchored_zero": AnchoredZero,
    "bco": Bco,
    "beta_dpo": BetaDpo,
    "chi_po": ChiPo,
    "cpo": Cpo,
    "davidson": Davidson,
    "discopop": Discopop,
    "dpo": Dpo,
    "dpop": Dpop,
    "espo": Espo,
    "exo": Exo,
    "exo_ranked": RankedExo,
    "hinge": Hinge,
    "ipo": Ipo,
    "kto": Kto,
    "length_normalised_dpo": LengthNormalisedDpo,
    "mallows": Mallows,
    "mallows_phi": MallowsPhi,
    "minor_dpo": MinorDpo,
    "mpo": Mpo,
    "nca": Nca,
    "odpo": Odpo,
    "orpo": Orpo,
    "plackett_luce": PlackettLuce,
    "ppo": Ppo,
    "r_dpo": RDpo,
    "rao_kupper": RaoKupper,
    "reference_free": ReferenceFree,
    "robust_dpo": RobustDpo,
    "rloo": Rloo,
    "rpo": Rpo,
    "sdpo": SoftmaxDpo,
    "sft": Sft,
    "simpo": Simpo,
    "sppo": Sppo,
    "wpo": Wpo,
}


_TERM = re.compile(r"\s*(?:(\d+(?:\.\d*)?(?:e-?\d+)?|\.\d+)\s*\*)?\s*([A-Za-z_0-9]+)\s*")


def objective_names() -> tuple[str, ...]:
    """The names that `make_objective` accepts, sorted."""
    return tuple(sorted(_OBJECTIVES))


def objective_kinds() -> dict[str, Any]:
    """The dataclass behind each of those names."""
    return dict(_OBJECTIVES)


def make_objective(
    name: str, *, file: str | None = None, nll_weight: float = 0.0, **hyper: Any
) -> Objective:
    """The objective of that name with the given settings.

    Args:
        name: one of `objective_names()`, or a weighted sum of them, such as `dpo + 0.2 * sft`.
        file: a Python file that defines `name`, a subclass of `Objective`; it is executed.
        nll_weight: weight of the mean negative log-likelihood of the chosen response's tokens,
            added to any objective over pairs.
        hyper: settings; in a sum, each is passed to every term that has it.

    Raises ConfigError for an unknown name or setting, or a value out of range.

    >>> make_objective("dpo", beta=0.5).beta
    0.5
    """
    check_not_negative("nll_weight", nll_weight)
    if not isinstance(file, str | None):
        raise ConfigError(f"objective.file: got {shown(file)}; give the path of a Python file")
    own = objectives_in(Path(file)) if file is not None else {}
    table: Mapping[str, Any] = {**_OBJECTIVES, **own}
    weighted = _terms(name, table, file)
    if own and not any(term in own for _, term in weighted):
        raise ConfigError(
            f"objective.name: got {name!r}, which {file} does not define; it defines "
            f"{', '.join(own)}"
        )
    kinds: dict[str, Any] = {term: table[term] for _, term in weighted}
    known = {term: [f.name for f in fields(kind)] for term, kind in kinds.items()}
    allowed = list(dict.fromkeys(key for keys in known.values() for key in keys))
    unknown = [key for key in hyper if key not in allowed]
    if unknown:
        raise ConfigError(
            *(
                f"objective.{key}: {name} has no such setting{_suggest(key, allowed)}"
                for key in unknown
            )
        )
    if missing := [key for term in kinds for key in _without_default(kinds[term], hyper)]:
        raise ConfigError(*(f"objective.{key}: is missing, and has no default" for key in missing))
    made: list[tuple[float, Objective]] = []
    for weight, term in weighted:
        settings = {key: hyper[key] for key in known[term] if key in hyper}
        guarded = own_code(f"objective.file: {term} in {file} cannot be made", ConfigError)
        with guarded if term in own else nullcontext():
            made.append((weight, kinds[term](**settings)))
    if (len(made) > 1 or nll_weight) and any(isinstance(part, ActorCritic) for _, part in made):
        raise ConfigError(
            f"objective.name: {name} has a critic and cannot be part of a sum; it can be combined "
            "with online_kl"
        )
    if nll_weight:
        if any(objective.takes == "ratings" for _, objective in made):
            raise ConfigError(
                f"objective.nll_weight: {name} takes ratings, which have no chosen response; set "
                "it to 0"
            )
        made.append((nll_weight, Sft()))
    return made[0][1] if len(made) == 1 and made[0][0] == 1.0 else WeightedSum(tuple(made))


def setting_names(name: str) -> list[str] | None:
    """The settings of a named objective, or of a sum's terms; None if the name is unknown."""
    try:
        kinds: list[Any] = [_OBJECTIVES[term] for _, term in _terms(name, _OBJECTIVES, None)]
    except ConfigError:
        return None
    return list(dict.fromkeys([f.name for kind in kinds for f in fields(kind)] + ["nll_weight"]))


def as_objective(value: Any, **settings: Any) -> Objective:
    """The objective specified by a name, an object, a class or a function.

    Args:
        value: a name as in `make_objective`; an Objective; a subclass of it, which is created with
            the settings; or a function from PairLogps to the loss of each pair, [B].
        settings: for a name or a class; a function has only `beta`.

    Raises ConfigError for any other value, or for an unknown setting.
    """
    if isinstance(value, str):
        return make_objective(value, **settings)
    if isinstance(value, Objective):
        if settings:
            raise ConfigError(
                f"{', '.join(settings)}: the objective is an object, which has its settings; give "
                f"them to {type(value).__name__}(...)"
            )
        check_class(type(value), "objective")
        return value
    if isinstance(value, type) and issubclass(value, Objective):
        check_class(value, "objective")
        made: Callable[..., Objective] = value
    elif callable(value) and not isinstance(value, type):
        made = partial(FunctionObjective, function=value)
    else:
        raise ConfigError(
            f"objective: got {value!r}; give a name ({', '.join(objective_names()[:4])}, ...), an "
            "Objective, a class that derives from it, or a function of PairLogps"
        )
    try:
        return made(**settings)
    except TypeError as error:
        raise ConfigError(f"objective: cannot be made with {settings}: {error}") from None


def objective_settings(name: str, **hyper: Any) -> dict[str, Any]:
    """The settings of an objective, defaults included; for a sum, only those given.

    Raises ConfigError as `make_objective`.
    """
    objective: Any = make_objective(name, **hyper)
    if "file" in hyper:
        hyper["file"] = str(Path(hyper["file"]).resolve())
    if isinstance(objective, WeightedSum):
        return hyper
    return {f.name: getattr(objective, f.name) for f in fields(objective)} | hyper


def _without_default(kind: Any, given: Mapping[str, Any]) -> list[str]:
    return [
        f.name
        for f in fields(kind)
        if f.default is MISSING and f.default_factory is MISSING and f.name not in given
    ]


def _terms(name: str, table: Mapping[str, Any], file: str | None) -> list[tuple[float, str]]:
    """Weights and names in a sum. Raises ConfigError for anything else."""
    found = []
    for part in name.split("+"):
        match = _TERM.fullmatch(part)
        if match is None:
            raise ConfigError(
                f"objective.name: {name!r} is neither a name nor a sum like 'dpo + 0.2 * sft'"
            )
        weight, term = match.groups()
        if term not in table:
            of_own = f", which is not in {file} either" if file else ""
            custom = "" if file else "; for a custom one set objective.file"
            advice = what_is(term) or _suggest(term, list(table)) + custom
            raise ConfigError(f"objective.name: got {term!r}{of_own}{advice}")
        check_not_negative("name", float(weight or 1.0))
        found.append((float(weight or 1.0), term))
    return found


def objective_problems(raw: Mapping[str, Any]) -> list[str]:
    """Errors in the `objective` section of a raw recipe, one line each."""
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
    return did_you_mean(given, allowed, otherwise=f"; allowed are {', '.join(allowed)}")
