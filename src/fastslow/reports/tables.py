"""Tables of a page: rows of text, each with a heading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastslow.config import Recipe, flat
from fastslow.evaluation import BenchmarkScore
from fastslow.reports.drawn import DrawnRun
from fastslow.reports.runs import ReportedRun

ABSENT = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """A row's heading and its cells."""

    heading: str
    cells: list[str]
    colour: str | None = None
    """Colour of the run that the row is about."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under their columns; every row has a cell for each."""

    corner: str
    """What the rows' headings name."""
    columns: list[str]
    rows: list[Row]


METRIC_COLUMNS = {
    "average": "average",
    "backward_transfer": "backward transfer",
    "forward_transfer": "forward transfer",
    "forgetting": "forgetting",
}


def retention_table(drawn: Sequence[DrawnRun]) -> Table:
    """Retention of each continual run, one row per metric."""
    rows = []
    for drawn_run in drawn:
        kept = drawn_run.run.retention
        for metric, values in (kept.metrics if kept else {}).items():
            cells = [_score(key, values.get(key)) for key in METRIC_COLUMNS]
            rows.append(Row(f"{drawn_run.run.label}, {metric}", cells, drawn_run.colour))
    return Table("run, score", list(METRIC_COLUMNS.values()), rows)


def weight_table(drawn: Sequence[DrawnRun]) -> Table:
    """The weight of each past module in the final combinations."""
    weights = {
        drawn_run.run.label: {
            key: f"{value:.3f}" for key, value in drawn_run.run.retention.weights.items()
        }
        for drawn_run in drawn
        if drawn_run.run.retention and drawn_run.run.retention.weights
    }
    return side_by_side("weight at the end", weights)


def benchmark_table(drawn: Sequence[DrawnRun]) -> Table:
    """Results of external tools, one column per run, with standard errors."""
    results = {
        drawn_run.run.label: {
            f"{benchmark.tool}, {benchmark.module}: {score.task}, {score.metric}": _measured(score)
            for benchmark in drawn_run.run.benchmarks
            for score in benchmark.scores
        }
        for drawn_run in drawn
        if drawn_run.run.benchmarks
    }
    return side_by_side("tool, policy: task, metric", results)


def changed_settings(runs: Sequence[ReportedRun]) -> Table:
    """The settings that differ from their defaults in any run whose recipe can be read."""
    default = flat(Recipe(model="").model_dump(mode="json", exclude={"model"}))
    settings = {run.label: flat(run.recipe.model_dump(mode="json")) for run in runs if run.recipe}
    changed = [
        key
        for key in dict.fromkeys(key for values in settings.values() for key in values)
        if any(key in values and values[key] != default.get(key, ABSENT)
               for values in settings.values())
    ]  # fmt: skip
    shown = {"default": default} | settings
    return side_by_side(
        "setting",
        {
            name: {key: _setting(values[key]) for key in changed if key in values}
            for name, values in shown.items()
        },
    )


def environment(runs: Sequence[ReportedRun]) -> Table:
    """Hardware and versions of the finished runs, and the hashes of what they read and wrote."""
    parts = ("device", "versions", "data", "hashes", "adapters")
    return side_by_side(
        "",
        {
            run.label: {
                key: str(value)
                for key, value in flat(
                    {p: run.summary[p] for p in parts if p in run.summary}
                ).items()
            }
            for run in runs
            if run.summary
        },
    )


def side_by_side(corner: str, columns: Mapping[str, Mapping[str, str]]) -> Table:
    """A row for every key of any column, in order of appearance."""
    keys = dict.fromkeys(key for values in columns.values() for key in values)
    rows = [Row(key, [values.get(key, ABSENT) for values in columns.values()]) for key in keys]
    return Table(corner, list(columns), rows)


def _measured(score: BenchmarkScore) -> str:
    stderr = "" if score.stderr is None else f" ± {score.stderr:.3g}"
    return f"{score.value:.4g}{stderr}" + (f" (of {score.count:,})" if score.count else "")


def _score(key: str, value: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value:+.3f}" if key.endswith("transfer") else f"{value:.3f}"


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "null" if value is None else str(value)
