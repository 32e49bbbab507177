"""The look of figures: one set of axes, legible in light and dark."""

from html import escape
from typing import Any

import plotly.graph_objects as go

from fastslow.reports.drawn import COLOURS, DrawnRun

DASHES = ("solid", "dot", "dash", "dashdot", "longdash")
"""Dashes of the first, second and further lines of a run."""
NEUTRAL = "#808080"
HEIGHT = 340
"""Height of a figure, in pixels; the width follows the window."""


BOUNDS = {"accuracy": (0, 1), "held-out accuracy": (0, 1), "share": (0, 1), "tokens": (0, None)}
"""Possible values by the axis' title, so that axes do not extend beyond them."""


def new_figure(x_title: str, y_title: str, **layout: Any) -> go.Figure:
    """An empty figure with the axes that all figures share; `layout` replaces parts of it."""
    axis: dict[str, Any] = {
        "gridcolor": "rgba(128,128,128,0.25)",
        "zerolinecolor": "rgba(128,128,128,0.6)",
        "automargin": True,
        "showline": False,
        "ticks": "",
    }
    shared: dict[str, Any] = {
        "template": "none",
        "height": HEIGHT,
        "margin": {"l": 60, "r": 16, "t": 44, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": NEUTRAL},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"namelength": -1},
        "legend": {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": NEUTRAL, "activecolor": COLOURS[0]},
        "xaxis": axis | {"title": {"text": x_title, "standoff": 6}},
        "yaxis": axis | {"title": {"text": y_title}},
    }
    if y_title in BOUNDS:
        low, high = BOUNDS[y_title]
        shared["yaxis"]["autorangeoptions"] = {"minallowed": low, "maxallowed": high}
    return go.Figure(layout=shared).update_layout(**layout)


def whose(drawn: DrawnRun, series: str) -> dict[str, Any]:
    """A trace's name, and its run, which the page's key uses to show and hide it."""
    return {"name": escape(series), "meta": drawn.run.label}


def hover(drawn: DrawnRun, series: str, *lines: str) -> dict[str, Any]:
    """Hover text of a trace: the lines and the name of the run."""
    name = series if drawn.alone else f"{drawn.run.label}: {series}"
    # Braces would be read as plotly's placeholders.
    extra = escape(name).replace("{", "&#123;")
    return {"hovertemplate": "<br>".join(lines) + f"<extra>{extra}</extra>"}


def counted(number: int, thing: str) -> str:
    """A number of things.

    >>> counted(1, "pair"), counted(1920, "pair")
    ('1 pair', '1,920 pairs')
    """
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def short(name: str) -> str:
    """A name for the side of a figure, cut with an ellipsis where it would take too much room.

    >>> short("requests of customers at night")
    'requests of custome…'
    """
    return escape(name if len(name) <= 20 else f"{name[:19]}…")
