"""The figure of which module leads when."""

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

import plotly.graph_objects as go

from fastslow.reports.drawn import DrawnRun
from fastslow.reports.events import Record
from fastslow.reports.stream_axis import stream_figure
from fastslow.reports.style import hover, whose


def leader_figure(drawn: Sequence[DrawnRun]) -> go.Figure:
    """A lane per module, a bar in the lane of the leader, a mark where another takes over."""
    records = [record for drawn_run in drawn for record in drawn_run.run.records]
    modules = list(dict.fromkeys(name for record in records for name in record.steps.modules))
    figure = stream_figure(
        drawn, "", showlegend=len(drawn) > 1, height=150 + 12 * len(modules) * (len(drawn) + 1)
    )
    for number, drawn_run in enumerate(drawn):
        shift = ((number + 0.5) / len(drawn) - 0.5) * 0.7
        _add_leaders(figure, drawn_run, {name: lane + shift for lane, name in enumerate(modules)})
    figure.update_yaxes(
        tickvals=list(range(len(modules))),
        ticktext=[f"{escape(name)} leads" for name in modules],
        range=[len(modules) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    return figure


def leading(record: Record) -> Iterator[tuple[str, int, int]]:
    """The leaders in order, each with the pairs seen at the start and the end of its lead."""
    begins = record.begins
    steps = zip(record.steps.leader, record.steps.pairs, strict=True)
    for leader, group in groupby(steps, key=lambda step: step[0]):
        *_, (_, ends) = group
        yield leader, begins, ends
        begins = ends


def _add_leaders(figure: go.Figure, one: DrawnRun, lane: dict[str, float]) -> None:
    x: list[int | None] = []
    y: list[float | None] = []
    for record in one.run.records:
        for leader, begins, ends in leading(record):
            x += [begins, ends, None]
            y += [lane[leader], lane[leader], None]
    bar = {"color": one.colour, "width": 8}
    figure.add_scatter(x=x, y=y, mode="lines", line=bar, hoverinfo="skip", **whose(one, "leader"))

    swaps = [swap for record in one.run.records for swap in record.swaps]
    figure.add_scatter(
        x=[swap.pairs for swap in swaps],
        y=[lane[swap.leader] for swap in swaps],
        text=[f"step {swap.step}: {escape(swap.leader)} now leads" for swap in swaps],
        mode="markers",
        marker={
            "color": one.colour,
            "size": 11,
            "symbol": "diamond",
            "line": {"color": "white", "width": 1.5},
        },
        **hover(one, "swap", "%{text}", "%{x:,} pairs"),
        **whose(one, "swap"),
    )
