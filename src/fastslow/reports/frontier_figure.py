"""The frontier: the gain against how far the policy moved for it."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from fastslow.reports.drawn import DrawnRun
from fastslow.reports.runs import ReportedRun
from fastslow.reports.scores import domain_means
from fastslow.reports.style import hover, new_figure, whose

TITLES = {"reward": "judge score", "accuracy": "held-out accuracy"}


def frontier_points(run: ReportedRun, metric: str) -> list[tuple[str, float, float]]:
    """Moment, reverse KL and metric of each evaluation that has both, in order.

    In a continual run: the means over all domains, before training and after each domain.
    """
    if run.retention is not None:
        kept = run.retention
        moments = ["before training", *(f"after {name}" for name in kept.domains)]
        measured = [domain_means(row) for row in (kept.initial, *kept.after)]
    elif run.continual:
        return []  # Each evaluation is of one domain only: a line through them has no meaning.
    else:
        evaluations = run.records[0].evaluations
        moments = [f"{evaluation.moment}, step {evaluation.step}" for evaluation in evaluations]
        measured = [evaluation.measured for evaluation in evaluations]
    return [
        (moment, metrics["reverse_kl"], metrics[metric])
        for moment, metrics in zip(moments, measured, strict=True)
        if metrics.get("reverse_kl") is not None and metrics.get(metric) is not None
    ]


def frontier_figure(drawn: Sequence[DrawnRun], metric: str) -> go.Figure:
    """Metric against reverse KL, joined in order, hollow at the start and large at the end."""
    figure = new_figure("reverse KL (nats per answer)", TITLES[metric], height=420)
    for drawn_run in drawn:
        points = frontier_points(drawn_run.run, metric)
        last = len(points) - 1
        figure.add_scatter(
            x=[kl for _, kl, _ in points],
            y=[value for *_, value in points],
            text=[escape(moment) for moment, *_ in points],
            mode="lines+markers",
            line={"color": drawn_run.colour, "width": 2},
            marker={
                "size": [14 if index == last else 8 for index in range(len(points))],
                "symbol": ["circle-open" if index == 0 else "circle" for index in range(last + 1)],
                "opacity": 1,
                "line": {"width": [2 if index == 0 else 0 for index in range(last + 1)]},
            },
            **hover(drawn_run, "held out", "%{text}", "%{y:.3f} at %{x:.2f} nats"),
            **whose(drawn_run, "held out"),
        )
    return figure
