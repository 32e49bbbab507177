"""What a run depends on besides its recipe, by fingerprints: inputs.json."""

from pathlib import Path
from typing import Any

from fastslow.errors import StateError
from fastslow.foreign_files import read_json

ALWAYS = ("model", "data")
"""What every run depends on."""


def read_inputs(folder: Path) -> dict[str, Any]:
    """The fingerprints of a run's inputs. Raises StateError where the file is damaged."""
    path = folder / "inputs.json"
    inputs: dict[str, Any] = read_json(path, dict[str, Any])
    if missing := [key for key in ALWAYS if key not in inputs]:
        raise StateError(f"{path} is damaged: {missing[0]!r} is missing; restore it")
    return inputs
