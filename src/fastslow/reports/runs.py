"""Reads run folders: ordinary runs, and continual runs with one record per domain."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.config import Recipe, check_policy, load_recipe
from fastslow.errors import ConfigError, StateError
from fastslow.evaluation import Benchmark, WithinBudget, read_benchmarks, scaled_to_budget
from fastslow.foreign_files import check_is_run, inside, misfit, read_json
from fastslow.reports.events import EvalResult, Record, read_record

PARTS = ("stages", "rounds")
"""Folders of a run's parts, which are shown as runs."""
COMMANDS = "commands.txt"
SUMMARY: dict[str, Any] = {"wall_s": float}
"""The parts of every summary that are used."""
Measurements = list[dict[str, float | None]]
CONTINUAL: dict[str, Any] = {
    "domains": list[str], "runs": list[str], "measured": list[str], "initial": Measurements,
    "after": list[Measurements], "metrics": dict[str, dict[str, float | None]], "policy": str,
    "weights": dict[str, float] | None, "budget": WithinBudget | None,
}  # fmt: skip
"""And of the summary of a run over several domains."""
SAMPLE: dict[str, Any] = {
    "domain": str, "prompt": str, "answers": dict[str, str], "rewards": dict[str, float] | None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Retention:
    """A continual run's scores on each domain over time."""

    domains: list[str]
    """In training order."""
    measured: list[str]
    """The domains that were measured, the columns of the scores; may be empty."""
    initial: list[EvalResult]
    """Scores of the base on each domain."""
    after: list[list[EvalResult]]
    """`after[i][j]`: score on domain j, after training on domain i."""
    metrics: dict[str, dict[str, float | None]]
    """For `accuracy` and possibly `reward`: average, backward_transfer and so on; empty if the
    measured domains are not the trained ones."""
    policy: str
    """Kind of the final policy: combined, routed or last."""
    weights: dict[str, float] | None
    """Weight of each past module in the final combination."""


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """All that a report needs of one run."""

    label: str
    """The folder's name, with as many parents as needed to be unique, or a given label."""
    folder: Path
    recipe: Recipe | None
    """None if this version cannot read the recipe; `yaml` still has its text."""
    yaml: str
    commands: list[str]
    """The command lines that made it, oldest first; empty for runs started from Python."""
    summary: dict[str, Any] | None
    """None while the run is not finished."""
    records: list[Record]
    """One in an ordinary run, one per domain in a continual run; never empty."""
    retention: Retention | None
    """None in an ordinary or unfinished run, and if nothing was held out."""
    samples: list[dict[str, Any]]
    benchmarks: list[Benchmark]
    """Results of external tools; for a run in parts they are shown with the last part."""

    @property
    def pairs(self) -> int:
        """Pairs learned from so far."""
        return self.records[-1].ends

    @property
    def of_rewards(self) -> bool:
        """Whether a reward model was trained, with rewards in place of log-probs."""
        return self.recipe is not None and self.recipe.task == "reward"

    @property
    def combined_of(self) -> list[str]:
        """The modules of a combination of finished runs; empty for an ordinary run folder."""
        path = self.folder / "combination.json"
        if not path.exists():
            return []
        entries: list[str] = read_json(path, dict[str, Any]).get("entries", [])
        if fault := misfit(entries, list[str], "'entries'"):
            raise StateError(f"{path} is damaged: {fault}; restore it")
        return entries

    @property
    def continual(self) -> bool:
        return self.records[0].domain is not None

    @property
    def warnings(self) -> list[str]:
        """Warnings of the run in order, each with its domain."""
        lines = [
            warning if record.domain is None else f"{record.domain}, {warning}"
            for record in self.records
            for warning in record.warnings
        ]
        budget = (self.summary or {}).get("budget")
        if self.retention and budget and budget["strength"] < 1:
            lines.append(scaled_to_budget(budget, "the final policy"))
        return lines


def read_runs(
    folders: Sequence[Path], labels: Mapping[Path, str] | None = None
) -> list[ReportedRun]:
    """The runs in the folders, in the order given; a run in stages or rounds gives each part begun.

    `labels` names some of them; the others are named after their folders.
    Raises ConfigError for no folder or a repeated one, StateError for one that is not a run.
    """
    if not folders:
        raise ConfigError("no run folder given; give the output_dir of one or more runs")
    paths = [folder.resolve() for folder in folders]
    twice = [str(path) for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise ConfigError(f"{', '.join(twice)}: given twice; give each run folder once")
    parts = {run: path for path in paths for run in _parts(path)}
    runs = list(parts)
    ends = {path: run for run, path in parts.items()}
    named = {folder.resolve(): label for folder, label in (labels or {}).items()}
    return [
        _read_run(folder, named.get(folder, label), _benchmarks(ends, parts[folder], folder))
        for folder, label in zip(runs, _labels(runs), strict=True)
    ]


def _parts(folder: Path) -> list[Path]:
    """Folders of the stages or rounds that have begun, in order; else the run's folder."""
    folders = [
        path.parent for kind in PARTS for path in sorted(folder.glob(f"{kind}/*/config.yaml"))
    ]
    return folders or [folder]


def _labels(paths: Sequence[Path]) -> list[str]:
    """Each path's last parts, as few as make it unique."""
    labels = []
    for path in paths:
        others = [other for other in paths if other != path]
        parts = range(1, len(path.parts) + 1)
        tails = (path.parts[-count:] for count in parts)
        tail = next(t for t in tails if all(other.parts[-len(t) :] != t for other in others))
        labels.append("/".join(tail))
    return labels


def _read_run(folder: Path, label: str, benchmarks: list[Benchmark]) -> ReportedRun:
    config = folder / "config.yaml"
    check_is_run(folder)
    summary = _summary(folder / "summary.json")
    return ReportedRun(
        label=label,
        folder=folder,
        recipe=_recipe(config),
        yaml=config.read_text(encoding="utf-8"),
        commands=_commands(folder),
        summary=summary,
        records=_records(folder, summary),
        retention=_retention(summary),
        samples=_samples(folder / "samples.json"),
        benchmarks=benchmarks,
    )


def _commands(folder: Path) -> list[str]:
    """The command lines of the run, or of the whole run that it is a part of."""
    path = folder / COMMANDS
    if folder.parent.name in PARTS and not path.exists():
        path = folder.parent.parent / COMMANDS
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _recipe(path: Path) -> Recipe | None:
    try:
        return load_recipe(path)
    except ConfigError:
        return None  # Written by another version: a finished run can still be shown.


def _summary(path: Path) -> dict[str, Any] | None:
    """The run's summary; None if it is not finished."""
    if not path.exists():
        return None
    summary: dict[str, Any] = read_json(path, dict[str, Any])
    check_policy(path, summary.get("kind"))
    shapes = CONTINUAL | SUMMARY if summary.get("kind") == "continual" else SUMMARY
    for key, shape in shapes.items():
        if fault := misfit(summary.get(key), shape, repr(key)):
            raise StateError(f"{path} is damaged: {fault}; restore it")
    return summary


def _benchmarks(ends: Mapping[Path, Path], whole: Path, part: Path) -> list[Benchmark]:
    """Results of external tools for the run in the folder `part`; for the last part of a run, those
    of the `whole`, whose policy it made."""
    path = (whole if ends[whole] == part else part) / "summary.json"
    if not path.exists():
        return []
    try:
        return read_benchmarks(read_json(path, dict[str, Any]).get("benchmarks", []))
    except ValueError as error:
        raise StateError(f"{path} is damaged: {error}; restore it") from None


def _samples(path: Path) -> list[dict[str, Any]]:
    """Answers to the same prompts side by side; empty without such a file."""
    samples = read_json(path, list[dict[str, Any]]) if path.exists() else []
    for sample in samples:
        for key, shape in SAMPLE.items():
            if fault := misfit(sample.get(key), shape, repr(key)):
                raise StateError(f"{path} is damaged: {fault}; restore it")
    return samples


def _records(folder: Path, summary: dict[str, Any] | None) -> list[Record]:
    domains = _domain_folders(folder, summary)
    if not domains:
        return [read_record(folder / "events.jsonl")]
    records: list[Record] = []
    for name, path in domains:
        begins = records[-1].ends if records else 0
        records.append(read_record(path / "events.jsonl", domain=name, begins=begins))
    return records


def _domain_folders(folder: Path, summary: dict[str, Any] | None) -> list[tuple[str, Path]]:
    """Name and folder of each domain in training order; none in an ordinary run.

    From the summary; in an unfinished run from the folders' names (`02-requests`).
    """
    if summary is not None:
        names = zip(summary.get("domains", []), summary.get("runs", []), strict=True)
        return [(name, inside(folder, path)) for name, path in names]
    paths = sorted(path for path in folder.glob("domains/*") if path.is_dir())
    return [(re.sub(r"^\d+-", "", path.name), path) for path in paths]


def _retention(summary: dict[str, Any] | None) -> Retention | None:
    if summary is None or summary.get("kind") != "continual" or not summary["measured"]:
        return None
    return Retention(
        domains=summary["domains"],
        measured=summary["measured"],
        initial=summary["initial"],
        after=summary["after"],
        metrics=summary["metrics"],
        policy=summary["policy"],
        weights=summary["weights"],
    )
