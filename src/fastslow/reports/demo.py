"""The report of `fastslow demo`: ways to learn the domains, the race, then the runs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from fastslow.errors import StateError
from fastslow.foreign_files import inside, misfit, read_json
from fastslow.reports.drawn import COLOURS
from fastslow.reports.heat_map import heat_map
from fastslow.reports.sections import Plot, Section
from fastslow.reports.style import NEUTRAL, new_figure, short

FILE = "demo.json"
WAYS = {
    "sequential": "sequential DPO",
    "sum": "sum of the modules",
    "distilled": "one student",
    "routed": "all modules, routed",
}
"""The page's names of the ways, in its order."""
CHASE = "chase"


@dataclass(frozen=True, slots=True)
class ShownWay:
    """One way to learn the domains, as `fastslow demo` stored it."""

    rate: float
    gain: float
    """Mean reward over the base at 2 nats of reverse KL."""
    ended: float
    reverse_kl: float
    domains: dict[str, float]
    """Reward over the base of the final policy, on each domain."""


@dataclass(frozen=True, slots=True)
class ShownDemo:
    """The results of `fastslow demo`."""

    ways: dict[str, ShownWay]
    race: dict[str, float]
    """Test-then-train loss above that at the best of DPO's rates, as a share of it."""
    runs: dict[str, str]
    """Folders, relative to the demo's, of the runs whose curves are shown, by their way."""


def read_demo(folder: Path) -> ShownDemo:
    """The results in a demo's folder. Raises StateError if they are damaged."""
    path = folder / FILE
    results = read_json(path, dict[str, Any])
    fault = misfit(results, ShownDemo)
    if not fault and (
        set(results["ways"]) != set(WAYS)
        or CHASE not in results["race"]
        or not set(results["runs"]) <= set(WAYS)
    ):
        fault = "a way or the chase is missing, or a run is of no way"
    if fault:
        raise StateError(f"{path} is damaged: {fault}; run `fastslow demo` again")
    ways = {name: ShownWay(**results["ways"][name]) for name in WAYS}
    return ShownDemo(ways, results["race"], results["runs"])


def run_folders(folder: Path, shown: ShownDemo) -> dict[Path, str]:
    """The runs that the page shows in full, with their labels."""
    return {inside(folder, run): WAYS[way] for way, run in shown.runs.items()}


def demo_verdict(shown: ShownDemo) -> str:
    """What was compared and the results, in three sentences."""
    ways, race = shown.ways, shown.race
    student, above = ways["distilled"], race[CHASE]
    return (
        f"{len(student.domains)} domains that partly contradict each other are learned one after "
        "another, each by an adapter of its own, a module. Compared at the same distance from the "
        f"base, 2 nats of KL, one student that the modules teach keeps {student.gain:+.2f} reward; "
        f"all modules, with a router, keep {ways['routed'].gain:+.2f}, their sum "
        f"{ways['sum'].gain:+.2f}, and one adapter trained on one domain after the other "
        f"(sequential DPO) {ways['sequential'].gain:+.2f}. Where tastes change, fast-slow chasing, "
        f"which is told no learning rate, loses {abs(above):.1%} "
        f"{'more' if above > 0 else 'less'} than DPO at the best of {len(race) - 1} rates, known "
        f"only afterwards; at the worst of them DPO loses {max(race.values()):.0%} more."
    )


def demo_sections(shown: ShownDemo) -> list[Section]:
    """The sections: what each way kept of every domain, and the race."""
    return [
        Section(
            "What came out",
            "",
            [
                Plot(
                    "What is kept of each domain",
                    "True reward over the base at the end, and the KL spent for it, of what each "
                    "way hands over: not yet at the same KL.",
                    _kept(shown.ways),
                ),
                Plot(
                    "A learning rate that nobody knew",
                    "A stream whose tastes change three times: test-then-train loss above that of "
                    "DPO at the rate that turned out best. Chasing has its default settings; "
                    "DPO's rate must be guessed.",
                    _race(shown.race),
                ),
            ],
        )
    ]


def _kept(ways: Mapping[str, ShownWay]) -> go.Figure:
    domains = list(ways["distilled"].domains)
    rows = [f"{WAYS[name]}<br>{way.reverse_kl:.1f} nats" for name, way in ways.items()]
    names = [short(domain) for domain in domains]
    scores = [[way.domains[domain] for domain in domains] for way in ways.values()]
    most = max(max(row) for row in scores)
    return heat_map(scores, rows, names, span=(0.0, most), form="+.2f")


def _race(race: Mapping[str, float]) -> go.Figure:
    rates = sorted((name for name in race if name != CHASE), key=lambda name: float(name[4:]))
    bars = [CHASE, *rates]
    figure = new_figure("", "loss above the best rate's")
    figure.add_bar(
        x=["chasing", *(f"DPO {name[4:]}" for name in rates)],
        y=[1 + race[name] for name in bars],
        customdata=[race[name] for name in bars],
        marker={"color": [COLOURS[0], *[NEUTRAL] * len(rates)]},
        text=[f"{race[name]:+.1%}" for name in bars],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{x}: %{customdata:+.2%}<extra></extra>",
    )
    lowest, highest = min(0.0, *race.values()), max(race.values())
    # Too high a rate can cost many times what the best one does.
    shares = (0, 0.5, 1, 3, 10, 30) if highest > 1 else (0, 0.05, 0.1, 0.25, 0.5, 1)
    ticks = [share for share in shares if share <= highest] or [0]
    figure.update_yaxes(
        type="log",
        range=[math.log10(1 + lowest), math.log10(1.05 * (1 + highest))],
        tickvals=[1 + share for share in ticks],
        ticktext=[f"+{share:.0%}" for share in ticks],
    )
    return figure
