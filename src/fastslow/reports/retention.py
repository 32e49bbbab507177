"""The figure of a continual run's scores on each domain after each domain."""

import plotly.graph_objects as go

from fastslow.reports.heat_map import heat_map
from fastslow.reports.runs import Retention
from fastslow.reports.scores import retention_scores
from fastslow.reports.style import short


def retention_figure(kept: Retention, metric: str, span: tuple[float, float]) -> go.Figure:
    """The scores as a heat map with numbers in its cells; `span` is the range of its colours."""
    scores = retention_scores(kept, metric)
    rows = ["base", *(f"after {short(name)}" for name in kept.domains)]
    columns = [f"on {short(name)}" for name in kept.measured]
    return heat_map(scores, rows, columns, span=span, form=".3f")
