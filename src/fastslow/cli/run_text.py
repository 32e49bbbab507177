"""Text about a run, as lines and tables."""

from collections.abc import Mapping
from shlex import quote
from typing import Any

from rich.table import Table

from fastslow.evaluation import accuracy_interval, with_interval
from fastslow.training.state.events import StartEvent
from fastslow.training.state.summary import ContinualSummary

REFERENCES = {"base": "the base", "previous": "the previous policy"}
"""Names of the references of held-out numbers."""


def acknowledged(signal: str) -> str:
    """The reply to a first signal."""
    return f"{signal}: finishing what is under way; a second one aborts it"


def next_commands(folder: str, task: str, *, held_out: bool) -> str:
    """Commands to use on a finished run. `held_out`: whether it has pairs to measure on."""
    path = quote(folder)
    sample = [] if task == "reward" else [f"fastslow sample {path} 'PROMPT'"]
    measure = f"fastslow eval {path}" + ("" if held_out else " --data HELD_OUT_PAIRS")
    return ", ".join([*sample, measure, f"fastslow report {path}"])


def retention(summary: ContinualSummary, key: str) -> Table:
    """The retention matrix R[i][j] with the base's scores as its first row."""
    columns = (f"on {name}" for name in summary.measured)
    against = ", vs the base" if key == "accuracy" else ""
    table = Table(f"{key} after{against}", *columns, box=None, pad_edge=False)
    rows = {"base": summary.initial} | {
        f"{number}. {name}": row
        for number, (name, row) in enumerate(zip(summary.domains, summary.after, strict=True), 1)
    }
    for label, row in rows.items():
        table.add_row(label, *(share(result, key) for result in row))
    return table


def share(result: Mapping[str, Any], key: str) -> str:
    """An accuracy or a win rate with its interval, another value without."""
    low, high = result.get(f"{key}_low"), result.get(f"{key}_high")
    bounds = None if low is None or high is None else (low, high)
    return with_interval(result[key], accuracy_interval(result) if key == "accuracy" else bounds)


def measurement(result: Mapping[str, Any], unit: str) -> str:
    """One line; `unit` says what the values of chosen and rejected responses are."""
    sides = (
        f"{side} {result[key]:+.2f}"
        for side in ("chosen", "rejected")
        if result[key := f"{side}_log_ratio"] is not None
    )
    text = (
        f"accuracy {share(result, 'accuracy')}, loss {result['loss']:.3f}, margin "
        f"{result['margin']:+.2f}, {' and '.join(sides)} {unit}"
    )
    if result["reverse_kl"] is not None:
        text += f", reverse KL {result['reverse_kl']:.2f}, {result['mean_length']:.0f} tokens"
    if result["reward"] is not None:
        text += f", reward {result['reward']:+.2f}"
    return text


def comparison(
    start: dict[str, Any], final: dict[str, Any], reference: str, *, rewards: bool
) -> Table:
    what, unit = ("reward", "") if rewards else ("log-prob", " (nats)")
    against = "" if rewards else f", vs {REFERENCES[reference]}"
    table = Table(f"held-out{against}", "start", "final", box=None, pad_edge=False)
    for key, label, form in (
        ("accuracy", "accuracy (95 % interval)", ""),
        ("loss", "loss", ".3f"),
        ("margin", f"margin{unit}", "+.2f"),
        ("chosen_logp", f"{what} of chosen", ".1f"),
        ("rejected_logp", f"{what} of rejected", ".1f"),
        ("reverse_kl", "reverse KL (nats)", ".2f"),
        ("mean_length", "answer length (tokens)", ".1f"),
        ("reward", "judge score", "+.2f"),
        ("win_rate", "win rate vs base (95 % interval)", ""),
    ):
        if None not in (start.get(key), final.get(key)):
            cells = (
                format(result[key], form) if form else share(result, key)
                for result in (start, final)
            )
            table.add_row(label, *cells)
    return table


def counts(counts: dict[str, int]) -> str:
    """Rows read, and the nonzero counts of rows and pairs treated specially."""
    return ", ".join(
        f"{value} {name.replace('_', ' ')}"
        for name, value in counts.items()
        if value or name == "read"
    )


def moving(event: StartEvent) -> str:
    moving = event["moving_reference"]
    if moving is None:
        return ""
    steps = "step" if moving["every"] == 1 else f"{moving['every']} steps"
    return f" moving {moving['share']:.3g} of the way to the policy every {steps}"


def processes(event: StartEvent) -> str:
    """How many train together and where, if they are several."""
    if event["processes"] == 1:
        return ""
    machines = "1 machine" if event["machines"] == 1 else f"{event['machines']} machines"
    return f" in {event['processes']} processes on {machines}"
