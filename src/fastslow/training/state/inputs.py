"""Fingerprints of what a run depends on besides its recipe: inputs.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastslow.atomic_io import write_text
from fastslow.errors import StateError
from fastslow.foreign_files import read_json
from fastslow.streams import Source, continues, fingerprints_of, keys_of

INPUTS = "inputs.json"
DATA = "data"
ALWAYS = ("model", DATA)
"""What every run depends on."""


def read_inputs(folder: Path) -> dict[str, Any]:
    """The fingerprints of a run's inputs. Raises StateError if the file is damaged."""
    path = folder / INPUTS
    inputs: dict[str, Any] = read_json(path, dict[str, Any])
    if missing := [key for key in ALWAYS if key not in inputs]:
        raise StateError(f"{path} is damaged: {missing[0]!r} is missing; restore it")
    return inputs


def check_inputs(folder: Path, inputs: Mapping[str, Any]) -> None:
    """Raise StateError if inputs differ from those the folder's run began with."""
    before = read_inputs(folder)
    for key, value in inputs.items():
        if before.get(key) != value:
            raise _changed(folder, key)


def keep_inputs(folder: Path, inputs: Mapping[str, Any], *, began: bool) -> None:
    """Check the inputs of a run that has begun, or keep the fingerprints of a new one's."""
    if began and (folder / INPUTS).exists():
        check_inputs(folder, inputs)
    else:
        write_inputs(folder, inputs)


def write_inputs(folder: Path, inputs: Mapping[str, Any]) -> None:
    """Write the fingerprints of a run's inputs."""
    write_text(folder / INPUTS, json.dumps(inputs, indent=1) + "\n")


def note_data(folder: Path, sources: Sequence[Source]) -> None:
    """Update the fingerprints of the data to their present state."""
    write_inputs(folder, {**read_inputs(folder), DATA: fingerprints_of(sources)})


def added(
    folder: Path, sources: Sequence[Source], fingerprints: Mapping[str, list[Any]]
) -> list[str]:
    """Keys of the data sources that are new or have grown since the folder's run read them.

    Raises StateError if a source is gone, or no longer begins with the rows it had.
    """
    before = read_inputs(folder)[DATA]
    by_key = dict(zip(keys_of(sources), sources, strict=True))
    for key, known in before.items():
        same = fingerprints.get(key) == known
        if not same and (key not in by_key or not continues(by_key[key], known)):
            raise _changed(folder, DATA, key)
    return [key for key, current in fingerprints.items() if current != before.get(key)]


def _changed(folder: Path, what: str, which: str = "") -> StateError:
    detail = f" ({which})" if which else ""
    return StateError(
        f"the {what} of the run in {folder} changed since it began{detail}, so it cannot resume "
        "exactly; restore it, or remove the folder to start over"
    )
