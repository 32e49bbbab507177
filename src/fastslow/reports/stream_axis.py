"""The axis of figures along the stream: pairs seen, and where the domain changes."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from fastslow.reports.drawn import DrawnRun
from fastslow.reports.events import Record
from fastslow.reports.style import NEUTRAL, new_figure, short

NAMED = 5
"""More domains than this are numbered, because names do not fit."""


def stream_figure(drawn: Sequence[DrawnRun], y_title: str, **layout: Any) -> go.Figure:
    """An empty figure against pairs seen, with a line where the domain changes.

    The domains are named if they change at the same places in all runs.
    """
    figure = new_figure("preference pairs seen", y_title, **layout).update_xaxes(tickformat=",")
    changes = {
        tuple((record.domain, record.begins) for record in drawn_run.run.records): drawn_run
        for drawn_run in drawn
        if drawn_run.run.continual
    }
    for drawn_run in changes.values():
        colour = NEUTRAL if len(changes) == 1 else drawn_run.colour
        for record in drawn_run.run.records[1:]:
            figure.add_vline(record.begins, line={"color": colour, "width": 1, "dash": "dot"})
    if len(changes) == 1:
        (drawn_run,) = changes.values()
        _name_domains(figure, drawn_run.run.records)
    return figure


def _name_domains(figure: go.Figure, records: Sequence[Record]) -> None:
    for number, record in enumerate(records, start=1):
        figure.add_annotation(
            x=record.begins,
            y=1,
            yref="paper",
            text=short(record.domain or "") if len(records) <= NAMED else str(number),
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
        )
