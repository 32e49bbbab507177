"""Reads events.jsonl: steps as columns; evaluations, swaps and warnings in order."""

import sys
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastslow.errors import StateError
from fastslow.evaluation import scaled_to_budget
from fastslow.foreign_files import read_log
from fastslow.reports.columns import Numbers

EvalResult = dict[str, Any]
"""A held-out measurement as the run wrote it; any value may be missing or null."""

LEADER_VALUES = ("loss", "accuracy", "margin")
SIDE_VALUES = ("chosen_log_ratio", "rejected_log_ratio")
FRESH_VALUES = ("score", "ratio_deviation", "explained_variance")
MODULE_VALUES = ("loss", "margin", "grad_norm")


@dataclass(slots=True)
class Steps:
    """The training steps as columns of one length, in order."""

    step: "array[int]" = field(default_factory=lambda: array("q"))
    pairs: "array[int]" = field(default_factory=lambda: array("q"))
    """Pairs seen by the run up to and including the step, with those of earlier domains."""
    leader: list[str] = field(default_factory=list)
    values: dict[str, "array[float]"] = field(
        default_factory=lambda: {key: array("d") for key in LEADER_VALUES}
    )
    """Means over the step's batch under the leader, before the update."""
    sides: dict[str, Numbers] = field(
        default_factory=lambda: {key: Numbers() for key in SIDE_VALUES}
    )
    """The same; None where the batch has no chosen, or no rejected, response."""
    fresh: dict[str, Numbers] = field(
        default_factory=lambda: {key: Numbers() for key in FRESH_VALUES}
    )
    """The judge's score of the completions learned from, how far the leader's probabilities of them
    have moved, and the explained variance of the critic; None if not applicable."""
    modules: dict[str, dict[str, Numbers]] = field(default_factory=dict)
    """MODULE_VALUES of each module; the gradient norm is None where a module skipped the step."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A held-out evaluation and its step."""

    moment: str
    step: int
    pairs: int
    measured: EvalResult


@dataclass(frozen=True, slots=True)
class Swap:
    """Another module leads from the next step on."""

    step: int
    pairs: int
    leader: str


@dataclass(frozen=True, slots=True)
class Record:
    """The contents of one event log: a whole ordinary run, or one domain of a continual run."""

    domain: str | None
    """None in an ordinary run."""
    begins: int
    """Pairs the run had seen before."""
    steps: Steps
    evaluations: list[Evaluation]
    swaps: list[Swap]
    warnings: list[str]

    @property
    def ends(self) -> int:
        """Pairs the run had seen after the last step."""
        return self.steps.pairs[-1] if self.steps.pairs else self.begins


def read_record(path: Path, *, domain: str | None = None, begins: int = 0) -> Record:
    """The record in an event log; an empty one if there is no log yet.

    Reads in one pass, and skips an incomplete last line, as in a run that is being
    written or was killed. Raises StateError for any other line that is not an event.
    """
    record = Record(domain, begins, Steps(), [], [], [])
    for number, event in read_log(path) if path.exists() else ():
        try:
            _add(record, event)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise StateError(
                f"{path}:{number}: not an event of a run ({error!r}); restore the file, or leave "
                "this run out of the report"
            ) from None
    return record


def _add(record: Record, event: dict[str, Any]) -> None:
    kind = event["event"]
    if kind == "step":
        _add_step(record.steps, record.begins, event)
    elif kind == "eval":
        record.evaluations.append(
            Evaluation(event["moment"], event["step"], record.ends, measured=event)
        )
    elif kind == "swap":
        record.swaps.append(Swap(event["step"], record.ends, event["leader"]))
    elif kind == "warning":
        record.warnings.append(f"step {event['step']}: {event['message']}")
    elif kind == "budget":
        text = scaled_to_budget(event, str(event["module"]))
        record.warnings.append(f"step {event['step']}: {text}")


def _add_step(steps: Steps, begins: int, event: dict[str, Any]) -> None:
    steps.step.append(_number(event["step"]))
    steps.pairs.append(begins + _number(event["pairs_seen"]))
    steps.leader.append(sys.intern(str(event["leader"])))
    for key, column in steps.values.items():
        column.append(_number(event[key]))
    for key, side in steps.sides.items():
        side.append(None if event[key] is None else _number(event[key]))
    known = {**event.get("critic", {}), **event["modules"][event["leader"]], **event}
    for key, fresh in steps.fresh.items():
        value = known.get(key)
        fresh.append(None if value is None else _number(value))
    for name, values in event["modules"].items():
        columns = steps.modules.setdefault(name, {key: Numbers() for key in MODULE_VALUES})
        for key, module_column in columns.items():
            value = values[key]
            module_column.append(None if value is None else _number(value))


def _number(value: Any) -> Any:
    """The value, if it is a number. Raises TypeError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is not a number")
    return value
