"""Python files of the user's own that a recipe names. Each is run once, when the recipe is read."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from fastslow.atomic_io import file_hash
from fastslow.errors import ConfigError

_LOADED: dict[tuple[Path, str], ModuleType] = {}
"""By path and content."""


def module_in(path: Path, *, key: str) -> ModuleType:
    """What a Python file defines. It is run again in this process only when it has changed.

    Raises ConfigError, naming the recipe's key, if the file is missing or fails.
    """
    if not path.is_file():
        raise ConfigError(f"{key}: {path.resolve()} does not exist")
    if path.suffix != ".py":
        raise ConfigError(f"{key}: {path} is no Python file; its name must end with .py")
    digest = file_hash(path)
    loaded = _LOADED.get((path.resolve(), digest))
    if loaded is not None:
        return loaded
    name = f"{__name__}.{path.stem}_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # Where dataclasses look their annotations up.
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(
            f"{key}: {path} cannot be run: {type(error).__name__}: {error}"
        ) from error
    _LOADED[path.resolve(), digest] = module
    return module
