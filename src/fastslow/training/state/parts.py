"""Runs of several parts: each part in its own folder, the last one's result at the top.

run folder/
  stages/01-sft/, stages/02-preferences/    or rounds/01/, rounds/02/: ordinary runs
  summary.json, adapters/                   of the last part
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fastslow.adapters import copy_adapter
from fastslow.atomic_io import new_folder
from fastslow.errors import StateError
from fastslow.foreign_files import inside
from fastslow.training.state.summary import RunSummary


def leader_of(run: Path, what: str) -> Path:
    """Folder of the leader's adapter in an earlier part of a run; `what` names the part.

    Raises StateError if that part is missing or not finished.
    """
    if not (run / "summary.json").exists():
        raise StateError(f"the {what} in {run} is missing or not finished; rerun the command")
    summary = RunSummary.read(run / "summary.json")
    return summary.adapter(run, summary.leader)


def finish_parts(folder: Path, parts: Sequence[Path]) -> RunSummary:
    """Copy the last part's result to the top of the run folder; returns its summary."""
    last = parts[-1]
    summary = RunSummary.read(last / "summary.json")
    with new_folder(folder / "adapters") as draft:
        for name in summary.adapters:
            copy_adapter(summary.adapter(last, name), draft / name)
    summary = replace(
        summary,
        adapters={name: f"adapters/{name}" for name in summary.adapters},
        parts=[part.relative_to(folder).as_posix() for part in parts],
    )
    summary.write(folder / "summary.json")
    return summary


def answering_part(folder: Path, summary: RunSummary) -> Path:
    """The folder of the ordinary run whose policy is the finished run's."""
    return inside(folder, summary.parts[-1]) if summary.parts else folder
