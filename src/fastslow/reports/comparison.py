"""Results of `fastslow bench online` as curves: reward over answers, seconds and reverse KL."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from fastslow.errors import StateError
from fastslow.reports.drawn import COLOURS
from fastslow.reports.sections import Plot, Section
from fastslow.reports.style import DASHES, new_figure
from fastslow.reports.tables import Row, Table

AXES = {
    "answers": "completions sampled for training",
    "seconds": "seconds, without evaluation",
    "reverse_kl": "reverse KL to the base (nats per answer)",
}
HEIGHT = 560


def read_comparison(folder: Path) -> dict[str, Any]:
    """The results in a folder of `bench online`.

    Raises StateError if they cannot be read or are of another comparison.
    """
    path = folder / "results.json"
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        curves = [row["curve"] for row in results["methods"].values()]
        if curves and all("answers" in point for curve in curves for point in curve):
            return results
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise StateError(
            f"{path} has no method curves ({type(error).__name__}: {error}); reports show run "
            "folders, or the folder of one `fastslow bench online`"
        ) from None
    raise StateError(f"{path} has no measured method; run `fastslow bench online` again")


def setting_line(found: Mapping[str, Any]) -> str:
    """The settings of the comparison."""
    parts = []
    for key, value in found["setting"].items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        parts.append(f"{key.replace('_', ' ')} {shown}")
    return "; ".join(parts)


def comparison_sections(found: Mapping[str, Any]) -> list[Section]:
    """The curves and the final numbers."""
    methods = found["methods"]
    sampling = {name: row for name, row in methods.items() if row["end"]["answers"]["mean"] > 0}
    plots = [
        Plot(
            "Reward over judged completions",
            "Methods that sample completions. Whiskers: 95 % bootstrap intervals.",
            _figure(methods, sampling, "answers"),
        ),
        Plot(
            "Reward over time",
            "Time for sampling, judging and training on the benchmark machine.",
            _figure(methods, methods, "seconds"),
        ),
        Plot(
            "Reward over KL to the base",
            "Higher for the same KL is better; a curve that turns down is over-optimised.",
            _figure(methods, methods, "reverse_kl"),
        ),
    ]
    lead = "Score by the evaluation judge on held-out prompts."
    return [
        Section("Reward", lead, plots if sampling else plots[1:]),
        Section("Final results", "Means over seeds.", [], [_ends(methods)]),
    ]


def _figure(methods: Mapping[str, Any], shown: Mapping[str, Any], key: str) -> go.Figure:
    figure = new_figure(AXES[key], "reward", height=HEIGHT, showlegend=True)
    figure.update_layout(margin={"b": 150})
    looks = {name: _look(place) for place, name in enumerate(methods)}
    for name, row in shown.items():
        curve = row["curve"]
        figure.add_scatter(
            name=escape(name),
            x=[point[key]["mean"] for point in curve],
            y=[point["reward"]["mean"] for point in curve],
            error_y=_whisker(curve[-1]["reward"], len(curve)),
            mode="lines+markers",
            **looks[name],
            hovertemplate="%{y:.2f} at %{x:,.1f}",
        )
    return figure


def _look(place: int) -> dict[str, Any]:
    colour = COLOURS[place % len(COLOURS)]
    return {
        "line": {"color": colour, "width": 2, "dash": DASHES[place // len(COLOURS) % len(DASHES)]},
        "marker": {"size": 7, "symbol": place // len(COLOURS)},
    }


def _whisker(reward: Mapping[str, float], moments: int) -> dict[str, Any]:
    """An interval at the end of a curve only; whiskers everywhere would hide the curves."""
    low, high = reward.get("low", reward["mean"]), reward.get("high", reward["mean"])
    before = [0.0] * (moments - 1)
    return {
        "type": "data",
        "array": [*before, high - reward["mean"]],
        "arrayminus": [*before, reward["mean"] - low],
        "thickness": 1,
        "width": 4,
    }


def _ends(methods: Mapping[str, Any]) -> Table:
    columns = {"reward": ".2f", "reverse_kl": ".2f", "win_rate": ".0%", "mean_length": ".0f",
               "answers": ",.0f", "seconds": ",.0f"}  # fmt: skip
    heads = ["reward", "reverse KL (nats)", "win rate vs base", "tokens", "answers", "seconds"]
    rows = [
        Row(
            name,
            [f"{row['end'][key]['mean']:{form}}" for key, form in columns.items()],
            COLOURS[place % len(COLOURS)],
        )
        for place, (name, row) in enumerate(methods.items())
    ]
    return Table("method", heads, rows)
