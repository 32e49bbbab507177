"""Objectives of a user's own, from a plain Python file that a recipe names."""

from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path

from fastslow.errors import ConfigError
from fastslow.objectives.contract import CONTAINERS, Objective
from fastslow.plugins import module_in


def objectives_in(path: Path) -> dict[str, type[Objective]]:
    """The subclasses of `Objective` that a file defines, by name. The file is run.

    Raises ConfigError where there is no such file, it fails, or it defines none that can be used.
    """
    module = module_in(path, key="objective.file")
    found = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Objective)
        and value.__module__ == module.__name__
    }
    if not found:
        raise ConfigError(
            f"objective.file: {path} defines no class that derives from "
            "fastslow.objectives.Objective"
        )
    faults = [f"objective.file: {name} in {path} {fault}" for name, kind in found.items()
              for fault in _faults(kind)]  # fmt: skip
    if faults:
        raise ConfigError(*faults)
    return found


def _faults(kind: type[Objective]) -> Iterator[str]:
    if not is_dataclass(kind):
        yield "is no dataclass; write @dataclass(frozen=True, kw_only=True) above it"
    if kind.__call__ is Objective.__call__:
        yield "defines no __call__"
    if isinstance(kind.takes, str) and kind.takes not in CONTAINERS:
        yield f"takes {kind.takes!r}; allowed are {', '.join(CONTAINERS)}"
