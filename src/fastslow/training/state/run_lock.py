"""A run folder belongs to one recipe and to one process at a time."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fastslow.config import Recipe, flat, load_recipe
from fastslow.errors import ConfigError, StateError

LOCK = ".lock"
WORK = ("summary.json", "checkpoints/step-*", "domains/*/config.yaml", "answers/*/*.jsonl")
"""Files that show that a folder holds work, besides those of stages."""


def lock_run_folder(folder: Path) -> AbstractContextManager[Any]:
    """The folder, made if need be, for this process alone while the context is open."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout:
        raise StateError(f"another process is training in {folder}") from None
    except OSError as error:
        raise ConfigError(f"output_dir: {folder} is not writable: {error}") from None


def check_run_folder(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder holds work of this very recipe; refuses one that is something else's.

    A run without a checkpoint has nothing to lose: its folder is free for another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    began = any(any(folder.glob(sign)) for sign in WORK)
    if path.exists() and began:
        changed = _changed(load_recipe(path), recipe)
        if changed:
            raise StateError(
                f"{folder} holds a run of another recipe, which differs in {', '.join(changed)}; "
                "give another output_dir, or remove the folder to start over"
            )
    elif not path.exists() and any(not file.name.startswith(".") for file in folder.iterdir()):
        raise StateError(f"{folder} is not empty and holds no run; give another output_dir")
    return began


def _changed(before: Recipe, after: Recipe) -> list[str]:
    """Keys in which two recipes differ, but for those that cannot change the result."""
    old, new = (flat(recipe.model_dump(mode="json")) for recipe in (before, after))
    keys = sorted(set(old) | set(new))
    free = ("output_dir", "checkpoint.")
    return [key for key in keys if old.get(key) != new.get(key) and not key.startswith(free)]
