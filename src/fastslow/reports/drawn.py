"""The runs of a page, each with one colour in all figures and tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastslow.reports.runs import ReportedRun

COLOURS = ("#1c7fc4", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""After Okabe and Ito, distinct for colour-blind readers: without black and yellow, which vanish on
dark or light backgrounds, and with a lighter blue. More runs than colours share them."""


@dataclass(frozen=True, slots=True)
class DrawnRun:
    """A run and its look."""

    run: ReportedRun
    colour: str
    alone: bool
    """Whether it is the only run shown: a legend then names its lines, else the key names runs."""


def drawn_runs(runs: Sequence[ReportedRun]) -> list[DrawnRun]:
    """Every run with its colour."""
    return [
        DrawnRun(run, COLOURS[index % len(COLOURS)], alone=len(runs) == 1)
        for index, run in enumerate(runs)
    ]
