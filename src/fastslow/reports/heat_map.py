"""A heat map of scores, with the numbers in its cells."""

from collections.abc import Sequence

import plotly.graph_objects as go

from fastslow.reports.style import new_figure


def heat_map(
    scores: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    span: tuple[float, float],
    form: str,
) -> go.Figure:
    """The figure; `span` is the range of its colours, `form` the format of its numbers."""
    figure = new_figure("", "", height=90 + 44 * len(rows))
    figure.add_heatmap(
        z=scores,
        zmin=span[0],
        zmax=span[1],
        colorscale="Cividis",
        showscale=False,
        xgap=2,
        ygap=2,
        texttemplate=f"%{{z:{form}}}",
        textfont={"size": 14},
        hovertemplate="%{y}, %{x}: %{z:.4f}<extra></extra>",
    )
    # Positions by number, since two domains with one name would share a row.
    ticks = {"showgrid": False, "zeroline": False}
    figure.update_xaxes(tickvals=list(range(len(columns))), ticktext=columns, **ticks)
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=rows, autorange="reversed", **ticks
    )
    return figure
