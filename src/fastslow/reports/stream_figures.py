"""Figures along the stream: what is plotted against pairs seen."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from fastslow.reports.curves import Curve, thinned, trailing_mean
from fastslow.reports.drawn import DrawnRun
from fastslow.reports.lines import POINTS, Lines, heldout_lines, run_lines
from fastslow.reports.stream_axis import stream_figure
from fastslow.reports.style import DASHES, hover, whose


def smoothing_width(drawn: Sequence[DrawnRun]) -> int:
    """Pairs over which curves are smoothed: a twentieth of the longest record."""
    longest = max(r.ends - r.begins for drawn_run in drawn for r in drawn_run.run.records)
    return max(1, longest // 20)


def training_figure(
    drawn: Sequence[DrawnRun], lines: Lines, y_title: str, *, heldout: Lines | None = None
) -> go.Figure:
    """Smoothed curves, with faint raw curves and held-out values as diamonds."""
    figure = stream_figure(drawn, y_title, showlegend=drawn[0].alone)
    width = smoothing_width(drawn)
    for drawn_run in drawn:
        raw = run_lines(drawn_run.run, lines)
        smooth = run_lines(
            drawn_run.run,
            lambda record: {k: trailing_mean(v, width) for k, v in lines(record).items()},
        )
        for number, (series, curve) in enumerate(smooth.items()):
            if raw[series] != curve:
                _add_raw(figure, drawn_run, raw[series])
            style = {"mode": "lines", "line": _line(drawn_run, number)}
            add_curve(figure, drawn_run, series, curve, **style)
    if heldout is not None:
        _add_heldout(figure, drawn, heldout)
    return figure


def heldout_figure(drawn: Sequence[DrawnRun], key: str, y_title: str) -> go.Figure:
    """One value of the held-out measurements, joined within each domain."""
    figure = stream_figure(drawn, y_title)
    for drawn_run in drawn:
        for series, curve in run_lines(drawn_run.run, heldout_lines({"held out": key})).items():
            style = {"mode": "lines+markers", "line": _line(drawn_run, 0), "marker": {"size": 7}}
            add_curve(figure, drawn_run, series, curve, **style)
    return figure


def totals_figure(drawn: Sequence[DrawnRun], curves: Sequence[Curve], y_title: str) -> go.Figure:
    """One curve per run, of a sum over the whole stream."""
    figure = stream_figure(drawn, y_title)
    for drawn_run, curve in zip(drawn, curves, strict=True):
        style = {"mode": "lines", "line": _line(drawn_run, 0)}
        add_curve(figure, drawn_run, "leader", thinned(curve, POINTS), **style)
    return figure


def add_curve(figure: go.Figure, one: DrawnRun, series: str, curve: Curve, **style: Any) -> None:
    """Add a curve with value, position and name in its hover text."""
    figure.add_scatter(
        x=list(curve.x),
        y=rounded(curve.y),
        **style,
        **hover(one, series, "%{y:.4g}", "%{x:,} pairs"),
        **whose(one, series),
    )


def rounded(values: Sequence[float | None]) -> list[float | None]:
    """Rounded to six digits, which look the same and keep the page small."""
    return [None if value is None else float(f"{value:.6g}") for value in values]


def _line(one: DrawnRun, number: int) -> dict[str, Any]:
    return {"color": one.colour, "width": 2, "dash": DASHES[min(number, len(DASHES) - 1)]}


def _add_raw(figure: go.Figure, one: DrawnRun, curve: Curve) -> None:
    figure.add_scatter(
        x=curve.x,
        y=rounded(curve.y),
        mode="lines",
        line={"color": one.colour, "width": 1},
        opacity=0.25,
        hoverinfo="skip",
        showlegend=False,
        **whose(one, "batches"),
    )


def _add_heldout(figure: go.Figure, drawn: Sequence[DrawnRun], lines: Lines) -> None:
    for drawn_run in drawn:
        for symbol, (series, curve) in zip(
            ("diamond", "diamond-open"), run_lines(drawn_run.run, lines).items(), strict=False
        ):
            marker = {"color": drawn_run.colour, "size": 8, "symbol": symbol}
            add_curve(figure, drawn_run, series, curve, mode="markers", marker=marker)
