"""The page's first table: what came out of each run, in one row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastslow.evaluation import accuracy_interval, with_interval
from fastslow.reports.curves import cumulative
from fastslow.reports.events import EvalResult
from fastslow.reports.references import learned_against, reference_of, references_differ
from fastslow.reports.retention import domain_means, shared_metric
from fastslow.reports.runs import ReportedRun
from fastslow.reports.style import DrawnRun
from fastslow.reports.tables import ABSENT, Row, Table


@dataclass(frozen=True, slots=True)
class Column:
    """A fact of a run: where it is found and how it is written."""

    title: str
    find: Callable[[ReportedRun], Any]
    """None where the run has no such fact."""
    write: Callable[[Any], str]
    outcome: bool = False
    """Whether it says what came out, and not how."""


def headline(drawn: Sequence[DrawnRun], *, outcome: bool) -> Table:
    """One row a run, of what came out or of how; only columns that any run has values for."""
    every = _columns(shared_metric([one.run.retention for one in drawn if one.run.retention]))
    columns = [column for column in every if column.outcome is outcome]
    if outcome and references_differ([one.run for one in drawn]):
        columns.insert(0, Column("reference", reference_of, str))
    found = [[column.find(one.run) for column in columns] for one in drawn]
    used = [i for i in range(len(columns)) if any(row[i] is not None for row in found)]
    rows = [
        Row(
            one.run.label,
            [ABSENT if row[i] is None else columns[i].write(row[i]) for i in used],
            one.colour,
            _note(one.run),
        )
        for one, row in zip(drawn, found, strict=True)
    ]
    return Table("run", [columns[i].title for i in used], rows)


def _note(run: ReportedRun) -> str:
    """What must be known of a run before its numbers are read."""
    if not run.summary:
        return "not finished"
    if run.combined_of:
        return f"combination of {', '.join(run.combined_of)}"
    return ""


def latest(run: ReportedRun) -> EvalResult:
    """The last held-out measurement; in a continual run the mean over all its domains.

    Empty where there is none: without held-out pairs, and in an unfinished continual run.
    """
    if run.retention is not None:
        return domain_means(run.retention.after[-1])
    if run.continual or not run.records[0].evaluations:
        return {}
    return run.records[0].evaluations[-1].measured


def test_then_train(run: ReportedRun, key: str) -> float | None:
    """The leader's test-then-train mean over every pair."""
    if not run.pairs:
        return None
    return cumulative(run.records, key).y[-1] / run.pairs


def duration(seconds: float) -> str:
    """A duration in a readable form.

    >>> duration(12.34), duration(354), duration(7384)
    ('12.3 s', '5 min 54 s', '2 h 03 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass(frozen=True, slots=True)
class Share:
    """A share and the ends of its 95 % interval; None of a mean over domains, as a mean of several
    intervals is not an interval."""

    value: float
    bounds: tuple[float, float] | None


def held_out_accuracy(run: ReportedRun) -> Share | None:
    """The accuracy of the last held-out measurement."""
    measured = latest(run)
    if measured.get("accuracy") is None:
        return None
    return Share(measured["accuracy"], None if run.retention else accuracy_interval(measured))


def _win_rate(run: ReportedRun) -> Share | None:
    measured = latest(run)
    if measured.get("win_rate") is None:
        return None
    low, high = (measured.get(f"win_rate_{end}") for end in ("low", "high"))
    known = run.retention is None and low is not None and high is not None
    return Share(measured["win_rate"], (low, high) if known else None)


def _write_share(share: Share) -> str:
    return with_interval(share.value, share.bounds).replace(" (", "\n(")


def _tested(key: str) -> Callable[[ReportedRun], Any]:
    return lambda run: test_then_train(run, key)


def _measured(key: str) -> Callable[[ReportedRun], Any]:
    return lambda run: latest(run).get(key)


def _of_policies(key: str) -> Callable[[ReportedRun], Any]:
    return lambda run: None if run.of_rewards else latest(run).get(key)


def _of_rewards(key: str) -> Callable[[ReportedRun], Any]:
    return lambda run: latest(run).get(key) if run.of_rewards else None


def _kept(metric: str, key: str) -> Callable[[ReportedRun], Any]:
    return lambda run: run.retention and run.retention.metrics.get(metric, {}).get(key)


def _steps(run: ReportedRun) -> int:
    return sum(len(record.steps.step) for record in run.records)


def _columns(kept: str) -> list[Column]:
    """All columns; transfer and forgetting are those of the metric `kept`."""
    return [
        Column("held-out accuracy", held_out_accuracy, _write_share, outcome=True),
        Column("judge score", _measured("reward"), "{:.3f}".format, outcome=True),
        Column("win rate vs base", _win_rate, _write_share, outcome=True),
        Column("chosen log-ratio (nats)", _of_policies("chosen_log_ratio"), "{:+.2f}".format),
        Column("rejected log-ratio (nats)", _of_policies("rejected_log_ratio"), "{:+.2f}".format),
        Column("reward of chosen", _of_rewards("chosen_log_ratio"), "{:+.2f}".format, outcome=True),
        Column(
            "reward of rejected", _of_rewards("rejected_log_ratio"), "{:+.2f}".format, outcome=True
        ),
        Column("reverse KL (nats)", _measured("reverse_kl"), "{:.2f}".format, outcome=True),
        Column("answer length (tokens)", _measured("mean_length"), "{:.1f}".format),
        Column(f"backward transfer ({kept})", _kept(kept, "backward_transfer"), "{:+.3f}".format),
        Column(f"forward transfer ({kept})", _kept(kept, "forward_transfer"), "{:+.3f}".format),
        Column(f"forgetting ({kept})", _kept(kept, "forgetting"), "{:.3f}".format, outcome=True),
        Column("learned against", learned_against, str),
        Column("test-then-train accuracy", _tested("accuracy"), "{:.3f}".format),
        Column("test-then-train loss", _tested("loss"), "{:.3f}".format),
        Column("steps", _steps, "{:,}".format),
        Column("pairs", lambda run: run.pairs, "{:,}".format, outcome=True),
        Column(
            "wall time", lambda run: run.summary and run.summary["wall_s"], duration, outcome=True
        ),
    ]
