"""The page's first sentence: how much each run gained, and how far it had to move for it."""

from collections.abc import Sequence

from fastslow.evaluation import with_interval
from fastslow.reports.frontier_figure import TITLES, frontier_points
from fastslow.reports.headline import held_out_accuracy
from fastslow.reports.references import references_differ
from fastslow.reports.runs import ReportedRun


def verdict(runs: Sequence[ReportedRun]) -> str:
    """One sentence on the finished runs, or none if there is nothing to compare.

    Gains are from before training to the end, of judge scores where all runs have them, else of
    held-out accuracy; in continual runs means over all domains.
    """
    if references_differ(runs):
        return "The runs have different references, so their scores cannot be compared."
    done = [run for run in runs if run.summary]
    for metric in ("reward", "accuracy"):
        points = {run.label: frontier_points(run, metric) for run in done}
        if points and all(len(run_points) > 1 for run_points in points.values()):
            return _of_gains(points, metric)
    if len(done) == 1 and (share := held_out_accuracy(done[0])):
        return f"Held-out accuracy is {with_interval(share.value, share.bounds)}."
    return ""


def _of_gains(points: dict[str, list[tuple[str, float, float]]], metric: str) -> str:
    gains = {label: run_points[-1][2] - run_points[0][2] for label, run_points in points.items()}
    spent = {label: run_points[-1][1] for label, run_points in points.items()}
    best, *others = sorted(gains, key=lambda label: -gains[label])
    name = TITLES[metric]
    if not others:
        change = "rose" if gains[best] >= 0 else "fell"
        begin, end = points[best][0][2], points[best][-1][2]
        return (
            f"The {name} {change} from {begin:.3f} to {end:.3f} at {spent[best]:.2f} nats of "
            "reverse KL."
        )
    rest = ", ".join(f"{label} {gains[label]:+.3f} at {spent[label]:.2f}" for label in others)
    return (
        f"{best} gained most: {gains[best]:+.3f} in {name} at {spent[best]:.2f} nats of reverse "
        f"KL; {rest}."
    )
