"""Which curves of a run a figure shows, across its domains."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastslow.reports.curves import Curve, present, thinned
from fastslow.reports.events import Record
from fastslow.reports.runs import ReportedRun

POINTS = 2000
"""Most points of a curve: more than the columns of a screen."""

Lines = Callable[[Record], dict[str, Curve]]
"""Gives the curves of a record by name, against pairs seen."""


def leader_line(key: str) -> Lines:
    """The leader's value at each step."""
    return lambda record: {"leader": Curve(record.steps.pairs, record.steps.values[key])}


def module_lines(key: str) -> Lines:
    """Each module's value at each step that has one."""
    return lambda record: {
        name: present(record.steps.pairs, columns[key])
        for name, columns in record.steps.modules.items()
    }


def likelihood_lines(record: Record) -> dict[str, Curve]:
    """How far the leader moved the log-probs of chosen and rejected responses, at each step."""
    steps = record.steps
    return {
        name: present(steps.pairs, steps.sides[f"{name}_log_ratio"])
        for name in ("chosen", "rejected")
    }


def fresh_line(key: str) -> Lines:
    """Metrics of the completions a step trained on, if there are any."""
    return lambda record: {"leader": present(record.steps.pairs, record.steps.fresh[key])}


def heldout_lines(keys: Mapping[str, str]) -> Lines:
    """Values of the held-out measurements; `keys` maps shown names to keys."""
    return lambda record: {
        name: present(
            [evaluation.pairs for evaluation in record.evaluations],
            [evaluation.measured.get(key) for evaluation in record.evaluations],
        )
        for name, key in keys.items()
    }


def run_lines(run: ReportedRun, lines: Lines) -> dict[str, Curve]:
    """The curves over all of a run's records, thinned, with a gap between two domains."""
    limit = max(10, POINTS // len(run.records))
    parts: dict[str, list[Curve]] = {}
    for record in run.records:
        for name, curve in lines(record).items():
            if curve.x:
                parts.setdefault(name, []).append(thinned(curve, limit))
    return {name: _with_gaps(curves) for name, curves in parts.items()}


def _with_gaps(curves: Sequence[Curve]) -> Curve:
    x: list[Any] = [*curves[0].x]
    y: list[Any] = [*curves[0].y]
    for curve in curves[1:]:
        x += [None, *curve.x]
        y += [None, *curve.y]
    return Curve(x, y)
