"""What a continual run knew of each domain after each: R[i][j], its means, its picture."""

from collections.abc import Sequence

import plotly.graph_objects as go

from fastslow.reports.events import EvalResult
from fastslow.reports.heat_map import heat_map
from fastslow.reports.runs import Retention
from fastslow.reports.style import short


def domain_means(row: Sequence[EvalResult]) -> EvalResult:
    """The mean over domains of every value that all of them have."""
    shared = [key for key in row[0] if all(isinstance(m.get(key), int | float) for m in row)]
    return {key: sum(m[key] for m in row) / len(row) for key in shared}


def shared_metric(kept: Sequence[Retention]) -> str:
    """What runs are scored by side by side: reward where all have it, else accuracy."""
    known = all(base.get("reward") is not None for one in kept for base in one.initial)
    return "reward" if known else "accuracy"


def retention_scores(kept: Retention, metric: str) -> list[list[float | None]]:
    """R[i][j], the score on domain j after training on domain i, below a first row of the base."""
    return [[one.get(metric) for one in row] for row in (kept.initial, *kept.after)]


def retention_figure(kept: Retention, metric: str, span: tuple[float, float]) -> go.Figure:
    """The scores as a heat map, with the numbers in its cells; `span` is that of its colours."""
    scores = retention_scores(kept, metric)
    rows = ["base", *(f"after {short(name)}" for name in kept.domains)]
    columns = [f"on {short(name)}" for name in kept.measured]
    return heat_map(scores, rows, columns, span=span, form=".3f")
