"""Test-then-train loss summed over the stream, and what it is compared with."""

from collections.abc import Sequence
from math import log

from fastslow.reports.curves import Curve, above, cumulative
from fastslow.reports.runs import ReportedRun


def comparable(runs: Sequence[ReportedRun]) -> list[ReportedRun]:
    """The largest group of runs with the same number of pairs and the same objective."""
    groups: dict[tuple[int, str], list[ReportedRun]] = {}
    for run in runs:
        objective = repr(run.recipe.objective) if run.recipe else ""
        groups.setdefault((run.pairs, objective), []).append(run)
    return max(groups.values(), key=len)


def regrets(runs: Sequence[ReportedRun]) -> list[Curve]:
    """Each run's cumulative loss minus that of the run with the lowest total."""
    totals = [cumulative(run.records, "loss") for run in runs]
    best = min(totals, key=lambda total: total.y[-1])
    return [above(total, best) for total in totals]


def above_unlearned(run: ReportedRun) -> Curve:
    """The run's cumulative loss minus ln 2 per pair, the loss of the reference."""
    unlearned = Curve([0, run.pairs], [0.0, run.pairs * log(2)])
    return above(cumulative(run.records, "loss"), unlearned)


def starts_at_ln2(run: ReportedRun) -> bool:
    """Whether a policy that equals its reference loses ln 2 on every pair."""
    return _objective(run) in ("dpo", "robust_dpo")


def in_nats(run: ReportedRun) -> bool:
    """Whether the objective is a negative log-probability."""
    return starts_at_ln2(run) or _objective(run) == "reference_free"


def _objective(run: ReportedRun) -> str:
    return run.recipe.objective.name if run.recipe else ""
