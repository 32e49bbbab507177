"""Runs the user's Python files that a recipe names, each once, when the recipe is read."""

import dis
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from fastslow.atomic_io import file_hash
from fastslow.errors import ConfigError, FastslowError, shortened

LONGEST_REASON = 400
"""Characters shown of an error's own message."""
_LOADED: dict[tuple[Path, str], ModuleType] = {}
"""By path and content."""


@contextmanager
def own_code(fails: str, error: type[FastslowError]) -> Iterator[None]:
    """Inside, user code runs: whatever it raises, `exit` included, becomes an error that names it.

    Errors of fastslow, Ctrl-C and out-of-memory errors pass through unchanged.
    """
    try:
        yield
    except FastslowError:
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as raised:
        if isinstance(raised, KeyboardInterrupt) and not _raised_by_code(raised):
            raise
        text = _text(raised)
        if isinstance(raised, MemoryError) or re.search("out of memory|t allocate", text):
            raise  # A smaller batch may fit.
        reason = f"{type(raised).__name__}: {text}".removesuffix(": ")
        raise error(f"{fails}: {reason}") from raised


def _text(error: BaseException) -> str:
    """An error's message, which user code may also compute."""
    try:
        return shortened(str(error), LONGEST_REASON)
    except Exception:
        return ""


def _raised_by_code(error: BaseException) -> bool:
    """Whether a `raise` raised it, not a signal, which arrives between any two instructions."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    return dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def module_in(path: Path, *, key: str) -> ModuleType:
    """The module in a Python file. It is run again in this process only if it has changed.

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
    sys.modules[module.__name__] = module  # Dataclasses look up their annotations there.
    with own_code(f"{key}: {path} cannot be run", ConfigError):
        spec.loader.exec_module(module)
    _LOADED[path.resolve(), digest] = module
    return module
