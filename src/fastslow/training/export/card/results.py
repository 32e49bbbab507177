"""A run's measurements as tables of its model card. Log-probs in nats per response."""

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from fastslow.evaluation import accuracy_interval, with_interval
from fastslow.training.export.card.markdown import code, number, table
from fastslow.training.state.summary import ContinualSummary, RunSummary

MEASURES = {
    "loss": "loss",
    "margin": "margin (nats)",
    "chosen_log_ratio": "log-ratio of chosen (nats)",
    "rejected_log_ratio": "log-ratio of rejected (nats)",
    "reverse_kl": "reverse KL (nats)",
    "mean_length": "answer length (tokens)",
    "reward": "judge's score",
}
"""Held-out means by their key in the summary."""


def results(summary: RunSummary | ContinualSummary) -> str:
    """The section on held-out data; says so if there was none."""
    tables = _of_domains(summary) if isinstance(summary, ContinualSummary) else _of_run(summary)
    warnings = [f"- Warning: {code(message)}" for message in summary.warnings]
    return "\n\n".join([tables or "Nothing was measured on held-out data.", *warnings])


def share_of(measured: Mapping[str, Any]) -> str:
    """Accuracy with its 95 % interval, from the number of pairs; a dash without both."""
    bounds = accuracy_interval(measured)
    return with_interval(measured["accuracy"], bounds) if bounds else "-"


def _of_run(summary: RunSummary) -> str:
    final = summary.eval["final"]
    if final is None:
        return ""
    start = summary.eval["start"] or {}
    rows = [["accuracy (95 % interval)", share_of(start), share_of(final)]]
    rows += [
        [name, number(start.get(key)), number(final.get(key))]
        for key, name in MEASURES.items()
        if number(final.get(key)) != "-"
    ]
    if number(final.get("win_rate")) != "-":
        low, high = number(final.get("win_rate_low")), number(final.get("win_rate_high"))
        interval = f"{number(final['win_rate'])} ({low} to {high})"
        rows.append(["win rate against the base (95 % interval)", "-", interval])
    head = f"On {number(final.get('pairs'))} held-out rows, at the start and at the end:"
    return f"{head}\n\n{table(['', 'start', 'end'], rows)}"


def _of_domains(summary: ContinualSummary) -> str:
    last = summary.after[-1] if summary.after else []
    rows = [
        [code(name), number((end or {}).get("pairs")), share_of(start or {}),
         share_of(end or {}), number((start or {}).get("reward")),
         number((end or {}).get("reward"))]
        for name, start, end in zip_longest(summary.measured, summary.initial, last)
        if name is not None
    ]  # fmt: skip
    head = ["domain", "rows", "accuracy of the base (95 % interval)",
            "at the end (95 % interval)", "score of the base", "score at the end"]  # fmt: skip
    of_each = table(head, rows)
    tables = "\n\n".join(filter(None, [of_each, table(["over domains", "value"], _means(summary))]))
    return f"On held-out rows of each domain:\n\n{tables}" if tables else ""


def _means(summary: ContinualSummary) -> Iterator[list[str]]:
    for measure, values in summary.metrics.items():
        for name, value in values.items():
            if number(value) != "-":
                yield [f"{code(measure)}: {code(name)}", number(value)]
