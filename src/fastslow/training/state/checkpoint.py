"""Checkpoints: folders of safetensors and JSON with a manifest of hashes, complete or ignored.

checkpoints/step-00000120/
  state.json            everything that is not a tensor
  <group>.safetensors   modules, optimizers, random generators
  manifest.json         sha256 of each file; written last, then the folder is renamed into place
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from fastslow.atomic_io import file_hash, new_folder, write_text
from fastslow.errors import StateError
from fastslow.foreign_files import read_json

FORMAT = 2
STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of manifest.json."""

    format: int
    step: int
    sha256: dict[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run's state: tensors in named groups, and facts as JSON."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    facts: Mapping[str, Any]


def write_checkpoint(folder: Path, step: int, snapshot: Snapshot, *, keep: int) -> Path:
    """Write the state after `step` steps and remove all but the newest `keep` checkpoints."""
    path = folder / f"step-{step:08d}"
    with new_folder(path) as draft:
        for group, tensors in snapshot.tensors.items():
            contiguous = {key: value.cpu().contiguous() for key, value in tensors.items()}
            save_file(contiguous, draft / f"{group}.safetensors")
        facts = json.dumps(dict(snapshot.facts), indent=1, allow_nan=False)
        write_text(draft / STATE, facts, private=True)  # It holds pairs.
        hashes = {file.name: file_hash(file) for file in sorted(draft.iterdir())}
        manifest = json.dumps({"format": FORMAT, "step": step, "sha256": hashes}, indent=1)
        (draft / "manifest.json").write_text(manifest, encoding="utf-8")
    # Anything newer than the run was skipped as damaged on resume.
    older = [other for other in _newest_first(folder) if other.name < path.name]
    newer = [other for other in _newest_first(folder) if other.name > path.name]
    for other in newer + older[keep - 1 :]:
        shutil.rmtree(other, ignore_errors=True)
    return path


def read_newest(folder: Path) -> tuple[Snapshot | None, list[str]]:
    """The newest complete checkpoint, or None, and why newer ones were skipped."""
    skipped = []
    for path in _newest_first(folder):
        fault = _fault(path)
        if fault:
            skipped.append(f"{path}: {fault}")
            continue
        names = sorted(read_json(path / "manifest.json", Manifest).sha256)
        groups = {Path(name).stem: load_file(path / name) for name in names if name != STATE}
        return Snapshot(groups, read_json(path / STATE, dict[str, Any])), skipped
    return None, skipped


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def _fault(path: Path) -> str | None:
    try:
        manifest: Manifest = read_json(path / "manifest.json", Manifest)
    except StateError:
        return "has no readable manifest"
    if manifest.format != FORMAT:
        return f"has format {manifest.format}, this version reads {FORMAT}"
    for name, expected in {STATE: "", **manifest.sha256}.items():
        file = path / name
        if file.parent != path:
            return f"its manifest names {name!r}, which is not in it"
        if not file.is_file():
            return f"{name} is missing"
        if file_hash(file) != expected:
            return f"{name} has changed since it was written"
    return None
