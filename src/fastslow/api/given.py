"""What a run is given in memory, written into its folder so that it resumes exactly."""

import hashlib
import inspect
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fastslow.api.rows import numbered_rows
from fastslow.atomic_io import OWN, file_hash
from fastslow.config import Recipe, load_recipe
from fastslow.errors import ConfigError, DataError, StateError
from fastslow.judges.objects import hold, title_of
from fastslow.objectives import objective_problems
from fastslow.streams import Unreadable
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.state.run_lock import GIVEN, lock_run_folder

JUDGE = '''"""Stands for the judge that fastslow.train was given as a Python object.

{title} ({digest})
"""

from fastslow.judges.objects import held

judge = held(__file__)
'''


def recipe_with(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    judge: Any = None,
) -> Recipe:
    """The checked recipe, which names the files that rows and a judge were written to.

    Raises ConfigError where the recipe and an argument both say the same thing, DataError for rows
    that are no JSON, StateError where a run began with other rows.
    """
    raw = recipe.model_dump(mode="json") if isinstance(recipe, Recipe) else recipe
    if train_dataset is None and eval_dataset is None and judge is None:
        return load_recipe(raw, checks=[objective_problems])
    folder = _output_dir(raw) / GIVEN
    files = {
        "train": folder / "train.jsonl" if train_dataset is not None else None,
        "eval": folder / "eval.jsonl" if eval_dataset is not None else None,
    }
    overrides = [f"data.{key}={json.dumps(str(path))}" for key, path in files.items() if path]
    if judge is not None:
        section = judge if isinstance(judge, Mapping) else _rule(folder / "judge.py")
        overrides.append(f"judge={json.dumps(dict(section))}")
    checked = load_recipe(raw, overrides, checks=[objective_problems])
    processes = ProcessGroup(checked.train.device)
    for path, data, name in (
        (files["train"], train_dataset, "train_dataset"),
        (files["eval"], eval_dataset, "eval_dataset"),
    ):
        if path is not None:
            processes.broadcast_from_main(partial(_write, path, data, name))
    if judge is not None and not isinstance(judge, Mapping):
        hold(folder / "judge.py", judge)
        processes.broadcast_from_main(partial(_write_judge, folder / "judge.py", judge))
    return checked


def _output_dir(recipe: Mapping[str, Any] | str | Path) -> Path:
    """Where the recipe's run goes, before the rest of a mapping is checked."""
    if not isinstance(recipe, Mapping):
        return Path(load_recipe(recipe).output_dir)
    default = Recipe.model_fields["output_dir"].default
    return Path(recipe.get("output_dir", default)).expanduser()


def _rule(file: Path) -> dict[str, str]:
    return {"kind": "rule", "file": str(file), "function": "judge"}


def _write(path: Path, data: Any, name: str) -> None:
    """Write rows; those of a run that began stay as they are, and must be the same."""
    with lock_run_folder(path.parent.parent):
        path.parent.mkdir(exist_ok=True)
        draft = path.with_name(f".{path.name}.draft")
        draft.unlink(missing_ok=True)
        draft.touch(mode=OWN)
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            for line in _lines(data, name):
                file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        if path.exists() and _began(path.parent.parent):
            same = file_hash(path) == file_hash(draft)
            draft.unlink()
            if not same:
                raise StateError(
                    f"{name}: the rows differ from those that the run in {path.parent.parent} "
                    "began with, so it cannot resume exactly; give the same rows, another "
                    "output_dir, or remove the folder to start over"
                )
            return
        os.replace(draft, path)


def _lines(data: Any, name: str) -> Iterator[str]:
    for where, row in numbered_rows(data, name=name):
        if isinstance(row, Unreadable):
            raise DataError(f"{where}: {row.reason}")
        try:
            line = json.dumps(dict(row), ensure_ascii=False)
            line.encode("utf-8")  # Half a character has no bytes.
            yield line
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{where}: cannot be written as JSON: {error}; give text, numbers and lists"
            ) from None


def _began(folder: Path) -> bool:
    return (folder / "config.yaml").exists()


def _write_judge(path: Path, judge: Any) -> None:
    kind = judge if inspect.isroutine(judge) or isinstance(judge, type) else type(judge)
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        source = ""
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(JUDGE.format(title=title_of(judge), digest=digest), encoding="utf-8")


def one_listener(callback: Any, listener: Any) -> Any:
    """The function that hears of events. Raises ConfigError where two are given."""
    if callback is not None and listener is not None:
        raise ConfigError("callback and listener are the same; give one of them")
    hears = callback if listener is None else listener
    if hears is not None and not callable(hears):
        raise ConfigError(
            f"callback: got {hears!r}; give a function that is called with each event"
        )
    return hears
