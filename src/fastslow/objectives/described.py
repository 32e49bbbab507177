"""Settings of objectives as text: the objectives that have a setting, and its defaults."""

from dataclasses import MISSING, fields
from textwrap import fill
from typing import Any

from fastslow.errors import ConfigError, did_you_mean
from fastslow.objectives import objective_kinds, setting_names

MEANING = "What each does: docs/objectives.md."
OF_ALL = {
    "file": "objective.file  (text or null; default null)\n"
    "    A Python file that defines objective.name, a subclass of Objective; it is executed.",
    "nll_weight": "objective.nll_weight  (number >= 0; default 0)\n"
    "    Weight of the chosen response's negative log-likelihood, added to any loss of pairs.",
}
"""Settings that belong to no objective in particular."""


def setting_text(name: str) -> str:
    """The objectives that have a setting, grouped by default.

    Raises ConfigError if none has it.
    """
    if name in OF_ALL:
        return OF_ALL[name]
    holders: dict[str, list[str]] = {}
    for objective, kind in objective_kinds().items():
        for field in fields(kind):
            if field.name == name:
                holders.setdefault(_default(field), []).append(objective)
    if not holders:
        known = {key for objective in objective_kinds() for key in setting_names(objective) or ()}
        raise ConfigError(
            f"objective.{name}: no objective has such a setting"
            f"{did_you_mean(name, sorted(known), otherwise=f'; they have {_joined(known)}')}"
        )
    lines = [_wrapped(f"{default}: {', '.join(of)}") for default, of in holders.items()]
    return "\n".join([f"objective.{name}  (a setting of these objectives)", *lines, MEANING])


def settings_text(objective: str) -> str:
    """The settings of a named objective with their defaults."""
    kind: Any = objective_kinds()[objective]
    own = [f"objective.{f.name}  ({_default(f)})" for f in fields(kind)]
    listed = [f"    {line}" for line in [*own, "objective.nll_weight  (default 0)"]]
    first = f"The settings depend on the name. {objective} has"
    last = f"`fastslow recipe objective.KEY` says which others have a setting. {MEANING}"
    return "\n".join([first, *listed, last])


def _default(field: Any) -> str:
    if field.default is not MISSING:
        return f"default {'null' if field.default is None else field.default}"
    return "required" if field.default_factory is MISSING else "has a default"


def _wrapped(line: str) -> str:
    return fill(line, 96, initial_indent="    ", subsequent_indent="      ")


def _joined(names: set[str]) -> str:
    return ", ".join(sorted(names))
