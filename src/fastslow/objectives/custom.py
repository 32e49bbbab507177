"""Objectives of a user's own, from a plain Python file that a recipe names."""

import importlib.util
import sys
from pathlib import Path

from fastslow.errors import ConfigError
from fastslow.objectives.contract import Objective


def objectives_in(path: Path) -> dict[str, type[Objective]]:
    """The subclasses of `Objective` that a file defines, by name. The file is run.

    Raises ConfigError where there is no such file, it fails, or it defines none.
    """
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(f"objective.file: {path} is no Python file")
    spec = importlib.util.spec_from_file_location(f"{__name__}.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # Where dataclasses look their annotations up.
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(
            f"objective.file: {path} cannot be run: {type(error).__name__}: {error}"
        ) from error
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
    return found
