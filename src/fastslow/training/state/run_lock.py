"""Ensures that a run folder belongs to one recipe and to one process at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fastslow.config import Recipe, flat, load_recipe
from fastslow.errors import ConfigError, StateError
from fastslow.foreign_files import check_no_links
from fastslow.training.state.run_config import moved_with, with_absolute_paths

LOCK = ".lock"
WORK = (
    "summary.json", "checkpoints/step-*", "domains/*/config.yaml", "answers/*/*.jsonl",
    "pool/instructions.jsonl", "evaluations.jsonl",
)  # fmt: skip
"""Files that show that a folder holds work that could be lost."""
WORK_OF_STAGES = ("stages/*/summary.json", "stages/*/checkpoints/step-*")
"""The same for stages, which are checked one by one if a recipe has them."""

STEPS = "train.max_steps"
FREE = (
    "output_dir", "checkpoint.", "publish", "report_to", "train.device", "data.follow",
    "data.max_wait_s",
)  # fmt: skip
"""Prefixes of keys that do not change what is learned."""
GIVEN = "data"
"""Folder for rows passed to a run in memory, written before it begins."""


@contextmanager
def lock_run_folder(folder: Path) -> Iterator[None]:
    """Lock the folder for this process while the context is open, and create it if needed. A folder
    created here is removed again if an error occurs before anything is written to it.

    Raises StateError if another process has it, if a link in it would lead a write elsewhere, or,
    at the end, if the folder was removed meanwhile.
    """
    try:
        there = [path for path in (folder, *folder.parents) if path.exists()]
        if there and not there[0].is_dir():
            raise ConfigError(f"output_dir: {there[0]} is a file; give a folder")
        new = [path for path in (folder, *folder.parents) if path not in there]
        folder.mkdir(parents=True, exist_ok=True)
        check_no_links(folder)
        lock = FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout:
        raise StateError(f"another process is training in {folder}") from None
    except OSError as error:
        # A file system such as /proc says that a new folder does not exist.
        missing = isinstance(error, FileNotFoundError)
        why = "no folder can be created there" if missing else error.strerror or error
        raise ConfigError(f"output_dir: {folder} is not writable: {why}") from None
    with lock:
        try:
            yield
        except FileNotFoundError as error:
            if not (folder / LOCK).exists():
                raise gone(folder) from error
            raise
        except BaseException:
            _remove_bare(folder, new)
            raise
        if not (folder / LOCK).exists():
            raise gone(folder)


def _remove_bare(folder: Path, new: Sequence[Path]) -> None:
    """Remove the folders created for a run that left nothing but the lock."""
    if new and folder.is_dir() and [file.name for file in folder.iterdir()] == [LOCK]:
        (folder / LOCK).unlink()
        with suppress(OSError):  # Another run may have begun beside it.
            for path in new:
                path.rmdir()


def gone(folder: Path) -> StateError:
    """The error for a folder that was removed during its run."""
    return StateError(
        f"{folder} was removed or replaced while the run went on; restore it and rerun the command "
        "to resume from its newest checkpoint, or remove what is left to start over"
    )


def check_run_folder(
    folder: Path, recipe: Recipe, *, more_steps: bool = False, other_domains: bool = False
) -> bool:
    """True if the folder holds work of this recipe. Raises StateError if it is used otherwise.

    A run without a checkpoint has nothing to lose, so its folder is free for another recipe. With
    `more_steps` the recipe may also ask for more steps, and with `other_domains` it may differ in
    the domains after those that have begun.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "combination.json").exists():
        raise StateError(
            f"{folder} holds a combination of modules, in which nothing is trained; give another "
            "output_dir"
        )
    path = folder / "config.yaml"
    signs = WORK if recipe.stages else (*WORK, *WORK_OF_STAGES)
    began = any(any(folder.glob(sign)) for sign in signs)
    if path.exists() and began:
        before = load_recipe(path)
        changed = _changed(moved_with(before, Path(before.output_dir), folder), recipe)
        later = asks_more_steps(before.train.max_steps, recipe.train.max_steps)
        allowed = (more_steps and later and changed == [STEPS]) or (
            other_domains and _of_other_domains(folder, before, recipe, changed)
        )
        if changed and not allowed:
            raise StateError(
                f"{folder} holds a run of another recipe, which differs in {', '.join(changed)}; "
                "give another output_dir, or remove the folder to start over"
            )
    elif not path.exists() and any(_foreign(file.name) for file in folder.iterdir()):
        raise StateError(f"{folder} is not empty and holds no run; give another output_dir")
    return began


def asks_more_steps(before: int | None, now: int | None) -> bool:
    """True if the step limit is higher now than before; None is no limit."""
    return before is not None and (now is None or now > before)


def _of_other_domains(folder: Path, before: Recipe, after: Recipe, changed: list[str]) -> bool:
    """True if the recipes differ only in domains after those that have begun in the folder."""
    begun = len([*folder.glob("domains/*/config.yaml")])
    counts = [
        len(recipe.continual.domains) for recipe in (before, after) if recipe.continual is not None
    ]
    later = range(begun + 1, max(counts, default=0) + 1)
    return 0 < begun <= min(counts, default=0) and all(
        any(key.startswith(f"continual.domains.{number}.") for number in later) for key in changed
    )


def _foreign(name: str) -> bool:
    """True if a file in a folder without a run was not written by fastslow."""
    return not name.startswith(".") and name != GIVEN


def _changed(before: Recipe, after: Recipe) -> list[str]:
    """Keys in which two recipes differ, except those that cannot change the result."""
    old, new = (
        flat(with_absolute_paths(recipe).model_dump(mode="json")) for recipe in (before, after)
    )
    keys = sorted(set(old) | set(new))
    return [key for key in keys if old.get(key) != new.get(key) and not key.startswith(FREE)]
