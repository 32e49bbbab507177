"""What a run that has already trained can take in: rows added to its data, and more steps.

Its position is a row in each file, so it continues after the rows it has read. Fingerprints check
that only the end of a file has changed.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fastslow.config import Recipe, load_recipe
from fastslow.errors import DataError, StateError
from fastslow.streams import StandardInput, repeated_rows
from fastslow.training.data.dataset import input_fingerprints, train_sources
from fastslow.training.state.inputs import DATA, INPUTS, added, check_inputs
from fastslow.training.state.run_lock import asks_more_steps
from fastslow.training.state.summary import RunSummary

OF_ITS_OWN = "put the new rows into a file of their own, for another run that starts from this one"


@dataclass(frozen=True, slots=True)
class Growth:
    """What has been added since a run began or ended."""

    data: list[str]
    """Names of the sources with new rows."""
    steps: bool
    """True if its recipe now ends later."""
    repeated: int
    """Rows of standard input already piped in before."""

    def __bool__(self) -> bool:
        return bool(self.data) or self.steps


def growth(folder: Path, recipe: Recipe, *, may_grow: bool) -> Growth:
    """What has been added since the run in a folder read its inputs.

    Raises StateError if inputs changed in any other way, or if the run cannot take in new rows; a
    part that later ones were built on (not `may_grow`) takes in none. Raises DataError or OSError
    if data are gone.
    """
    sources = train_sources(recipe)
    summary = _summary(folder)
    if summary and may_grow:
        for source in sources:
            if isinstance(source, StandardInput):
                source.look()  # Only reading a pipe shows whether it has rows.
    inputs = input_fingerprints(recipe, sources)
    data_now = inputs.pop(DATA)
    check_inputs(folder, inputs)
    data = added(folder, sources, data_now)
    limit = load_recipe(folder / "config.yaml").train.max_steps
    at_limit = summary is not None and summary.steps == limit
    more_steps = asks_more_steps(limit, recipe.train.max_steps) and (at_limit or not summary)
    faults = [*_faults(recipe, summary, may_grow)]
    if at_limit and not more_steps:
        faults.append(f"it has done its {limit} steps; raise train.max_steps")
    if data and faults:
        raise StateError(
            f"{', '.join(data)}: rows were added since the run in {folder} took them, but "
            + faults[0]
        )
    return Growth(data, more_steps, repeated_rows(sources))


def check_finished_parts(folder: Path, recipe: Recipe) -> None:
    """Raise StateError if inputs of a finished run of several parts, or of one of its parts, have
    changed; data that are gone are ignored."""
    if (folder / INPUTS).exists():
        with suppress(DataError, OSError):
            check_inputs(folder, input_fingerprints(recipe))
    for path in sorted(folder.glob(f"*/*/{INPUTS}")):
        with suppress(DataError, OSError):
            growth(path.parent, load_recipe(path.with_name("config.yaml")), may_grow=False)


def _summary(folder: Path) -> RunSummary | None:
    path = folder / "summary.json"
    return RunSummary.read(path) if path.exists() else None


def _faults(recipe: Recipe, summary: RunSummary | None, may_grow: bool) -> Iterator[str]:
    """Why a run cannot take in more rows."""
    if not may_grow:
        yield (
            "later parts were made from what it had learned; put the new rows into a file of "
            "their own, as a domain of their own or for another run"
        )
    if recipe.train.epochs > 1:
        yield f"each row is passed {recipe.train.epochs} times (train.epochs): {OF_ITS_OWN}"
    if recipe.data.label_delay:
        yield f"its labels come late (data.label_delay): {OF_ITS_OWN}"
    if recipe.online is not None and recipe.online.offline_fraction:
        yield f"stored rows are passed many times (online.offline_fraction): {OF_ITS_OWN}"
    if summary is not None and summary.ended == "drift":
        yield f"it ended where the preferences changed: {OF_ITS_OWN}"
