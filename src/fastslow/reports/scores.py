"""A continual run's scores on each domain after each, as numbers: R[i][j] and its means."""

from collections.abc import Sequence

from fastslow.reports.events import EvalResult
from fastslow.reports.runs import Retention


def domain_means(row: Sequence[EvalResult]) -> EvalResult:
    """The mean over domains of every value that all of them have, except ends of intervals: a mean
    of several intervals is not an interval."""
    shared = [
        key
        for key in row[0]
        if key != "pairs" and not key.endswith(("_low", "_high"))
        if all(isinstance(m.get(key), int | float) for m in row)
    ]
    return {key: sum(m[key] for m in row) / len(row) for key in shared}


def shared_metric(kept: Sequence[Retention]) -> str:
    """The metric that runs are compared by: reward if all have it, else accuracy."""
    known = all(base.get("reward") is not None for retention in kept for base in retention.initial)
    return "reward" if known else "accuracy"


def retention_scores(kept: Retention, metric: str) -> list[list[float | None]]:
    """R[i][j], the score on domain j after training on domain i; the first row is the base's."""
    return [[result.get(metric) for result in row] for row in (kept.initial, *kept.after)]
