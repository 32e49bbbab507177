"""The runs of a page, each with its colour in every figure and table."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastslow.reports.runs import ReportedRun

COLOURS = ("#1c7fc4", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""After Okabe and Ito, which colour-blind readers tell apart: without black and yellow, which
vanish on dark or light paper, and with a lighter blue. More runs than colours share them."""


@dataclass(frozen=True, slots=True)
class DrawnRun:
    """A run and its look."""

    run: ReportedRun
    colour: str
    alone: bool
    """Whether it is the only run shown: then a legend names its lines, else the key its run."""


def drawn_runs(runs: Sequence[ReportedRun]) -> list[DrawnRun]:
    """Every run with its colour."""
    return [
        DrawnRun(run, COLOURS[index % len(COLOURS)], alone=len(runs) == 1)
        for index, run in enumerate(runs)
    ]
