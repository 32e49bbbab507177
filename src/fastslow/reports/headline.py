"""The page's first table: the results of each run, in one row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastslow.evaluation import accuracy_interval, with_interval
from fastslow.reports.curves import cumulative
from fastslow.reports.drawn import DrawnRun
from fastslow.reports.events import EvalResult
from fastslow.reports.references import learned_against, reference_of, references_differ
from fastslow.reports.runs import ReportedRun
from fastslow.reports.scores import domain_means, shared_metric
from fastslow.reports.tables import ABSENT, Row, Table


@dataclass(frozen=True, slots=True)
class Share:
    """A share and the ends of its 95 % interval, if it has one."""

    value: float
    bounds: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Column:
    """A fact of a run or of its measurement: how to find it and how to write it."""

    title: str
    find: Callable[[ReportedRun, EvalResult], Any]
    """From a run and a held-out measurement; None if there is no such fact."""
    write: Callable[[Any], str]
    outcome: bool = False
    """Whether it is a result, not how it came about."""
    of_run: bool = True
    """Whether it is of the whole run, not of the measurement."""


def headline(drawn: Sequence[DrawnRun], *, outcome: bool) -> Table:
    """One row per run, of results or of how they came about; only columns with any value."""
    runs = [drawn_run.run for drawn_run in drawn]
    columns = [column for column in columns_of(runs) if column.outcome is outcome]
    facts = [[column.find(run, latest(run)) for column in columns] for run in runs]
    used = [i for i in range(len(columns)) if any(row[i] is not None for row in facts)]
    rows = [
        Row(
            drawn_run.run.label,
            [ABSENT if row[i] is None else columns[i].write(row[i]) for i in used],
            drawn_run.colour,
            _note(drawn_run.run),
        )
        for drawn_run, row in zip(drawn, facts, strict=True)
    ]
    return Table("run", [columns[i].title for i in used], rows)


def _note(run: ReportedRun) -> str:
    """What a reader must know of a run before its numbers."""
    if not run.summary:
        return "not finished"
    if run.combined_of:
        return f"combination of {', '.join(run.combined_of)}"
    return ""


def latest(run: ReportedRun) -> EvalResult:
    """The last held-out measurement; in a continual run the mean over all its domains.

    Empty if there is none: without held-out pairs, or in an unfinished continual run.
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


def held_out_accuracy(run: ReportedRun) -> Share | None:
    """The accuracy of the last held-out measurement; a mean over domains has no interval."""
    return _accuracy(run, latest(run))


def columns_of(runs: Sequence[ReportedRun]) -> list[Column]:
    """All columns for these runs: references too if they differ, transfer and forgetting of the
    metric that all have."""
    kept = shared_metric([run.retention for run in runs if run.retention])
    columns = [*_measurements(), *_facts(kept)]
    if references_differ(runs):
        columns.insert(0, Column("reference", _of_run(reference_of), str, outcome=True))
    return columns


def _accuracy(run: ReportedRun, measured: EvalResult) -> Share | None:
    value = measured.get("accuracy")
    return None if value is None else Share(value, accuracy_interval(measured))


def _win_rate(run: ReportedRun, measured: EvalResult) -> Share | None:
    value, low, high = (measured.get(f"win_rate{end}") for end in ("", "_low", "_high"))
    if value is None:
        return None
    return Share(value, None if low is None or high is None else (low, high))


def _write_share(share: Share) -> str:
    return with_interval(share.value, share.bounds).replace(" (", "\n(")


def _measurements() -> list[Column]:
    """Columns of a held-out measurement. Log-ratios of a reward model are rewards."""

    def column(
        title: str, key: str, form: str, *, outcome: bool = True, rewards: bool | None = None
    ) -> Column:
        def find(run: ReportedRun, measured: EvalResult) -> Any:
            return measured.get(key) if rewards in (None, run.of_rewards) else None

        return Column(title, find, form.format, outcome, of_run=False)

    return [
        Column("held-out accuracy", _accuracy, _write_share, outcome=True, of_run=False),
        column("judge score", "reward", "{:.3f}"),
        Column("win rate vs base", _win_rate, _write_share, outcome=True, of_run=False),
        column(
            "chosen log-ratio (nats)", "chosen_log_ratio", "{:+.2f}", outcome=False, rewards=False
        ),
        column(
            "rejected log-ratio (nats)", "rejected_log_ratio", "{:+.2f}", outcome=False,
            rewards=False,
        ),
        column("reward of chosen", "chosen_log_ratio", "{:+.2f}", rewards=True),
        column("reward of rejected", "rejected_log_ratio", "{:+.2f}", rewards=True),
        column("reverse KL (nats)", "reverse_kl", "{:.2f}"),
        column("answer length (tokens)", "mean_length", "{:.1f}", outcome=False),
    ]  # fmt: skip


def _facts(kept: str) -> list[Column]:
    """Columns of a whole run."""

    def transfer(key: str, form: str, *, outcome: bool = False) -> Column:
        def find(run: ReportedRun) -> Any:
            return run.retention and run.retention.metrics.get(kept, {}).get(key)

        title = f"{key.replace('_', ' ')} ({kept})"
        return Column(title, _of_run(find), form.format, outcome=outcome)

    def tested(key: str) -> Column:
        find = _of_run(lambda run: test_then_train(run, key))
        return Column(f"test-then-train {key}", find, "{:.3f}".format)

    return [
        transfer("backward_transfer", "{:+.3f}"),
        transfer("forward_transfer", "{:+.3f}"),
        transfer("forgetting", "{:.3f}", outcome=True),
        Column("learned against", _of_run(learned_against), str),
        tested("accuracy"),
        tested("loss"),
        Column("steps", _of_run(_steps), "{:,}".format),
        Column("pairs", _of_run(lambda run: run.pairs), "{:,}".format, outcome=True),
        Column(
            "wall time", _of_run(lambda run: run.summary and run.summary["wall_s"]), duration,
            outcome=True,
        ),
    ]  # fmt: skip


def _of_run(find: Callable[[ReportedRun], Any]) -> Callable[[ReportedRun, EvalResult], Any]:
    return lambda run, measured: find(run)


def _steps(run: ReportedRun) -> int:
    return sum(len(record.steps.step) for record in run.records)
