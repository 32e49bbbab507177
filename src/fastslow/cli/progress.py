"""The progress display of a run: a live bar on a terminal, plain lines elsewhere.

Everything goes to standard error; standard output is reserved for results that scripts read.
"""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from fastslow.training.state.events import (
    AnswersEvent,
    CompleteEvent,
    EvalEvent,
    Event,
    MeasuredEvent,
    PartEvent,
    ProgressEvent,
    StartEvent,
    StepEvent,
    StopEvent,
    SwapEvent,
    WarningEvent,
)
from fastslow.training.state.summary import ContinualSummary, RunSummary

PLAIN_EVERY_S = 10.0
REFERENCES = {"base": "the base", "previous": "the previous policy"}
"""How the references of held-out numbers are written."""
SMOOTHING = 0.9


class RunDisplay:
    """Shows the events of one run, of its stages or of several domains.

    A `brief` display omits the lines before training starts and the evaluations.
    """

    def __init__(self, console: Console | None = None, *, brief: bool = False) -> None:
        self._brief = brief
        self.console = console or Console(stderr=True, soft_wrap=True)
        self._live = self.console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self._live,
            expand=True,
        )
        self._train: TaskID | None = None
        self._side: TaskID | None = None
        self._total: int | None = None
        self._started = time.monotonic()
        self._rewards = False
        self._reference = "base"
        self._first_step = 0
        self._last_plain = -PLAIN_EVERY_S
        self._means: dict[str, float] = {}

    def __enter__(self) -> "RunDisplay":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        """Show one event; kinds without an `_on_` method are ignored."""
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def say(self, text: str, style: str = "") -> None:
        """Print a line above the bar."""
        self.console.print(escape(text), style=style, highlight=False)

    def _on_start(self, event: StartEvent) -> None:
        self._progress.start()  # Not earlier: the model's loading bar comes first.
        self._total, self._first_step = event["total_steps"], event["step"]
        self._rewards = event["task"] == "reward"
        self._reference = event["reference"]
        if self._brief:
            return
        self.say(
            f"objective {event['objective']}, modules {' and '.join(event['modules'])}, "
            f"reference {event['reference']}{_moving(event)}, device {event['device']}"
            + (f" in {event['processes']} processes" if event["processes"] > 1 else "")
            + (", base sharded (FSDP2)" if event["sharded"] else "")
        )
        if event["layout"] != "trees":
            self.say(f"scoring {event['layout']}", style="yellow")
        if event["memory"]:
            self.say(f"memory: about {event['memory']}")
        if event["heldout"]:
            self.say(f"held-out rows: {_counts(event['heldout'])}")
        if event["resumed"]:
            self.say(f"resuming from step {event['step']}")

    def _summarise_domains(self, summary: ContinualSummary) -> None:
        for key, kept in summary.metrics.items():
            self.console.print(_retention(summary, key))
            numbers = (f"{name.replace('_', ' ')} {value:+.3f}" for name, value in kept.items()
                       if value is not None)  # fmt: skip
            self.say(f"{key}: {', '.join(numbers)}")
        if summary.weights is not None:
            weights = (f"{name} {weight:.2f}" for name, weight in summary.weights.items())
            self.say(f"weights: {', '.join(weights)}")
        self.say(
            f"{summary.steps} steps, {summary.pairs_seen} pairs in {summary.wall_s:.0f} s; "
            f"final policy: {summary.policy}"
        )

    def _on_stage(self, event: PartEvent) -> None:
        self._begin_part()
        self.say(f"stage {event['number']} of {event['of']}: {event['name']}", style="bold")

    def _on_round(self, event: PartEvent) -> None:
        self._begin_part()
        self.say(f"round {event['number']} of {event['of']}", style="bold")

    def _on_answers(self, event: AnswersEvent) -> None:
        self._drop_side()
        self.say(
            f"{event['rows']}/{event['prompts']} prompts gave training examples, {event['ties']} "
            f"of them ties; judge: {event['judge']}"
        )

    def _on_domain(self, event: PartEvent) -> None:
        self._begin_part()
        if not self._brief:
            self.say(f"domain {event['number']}: {event['name']}", style="bold")

    def _begin_part(self) -> None:
        """Start a stage, round or domain with a new bar and new moving averages."""
        self._drop_side()
        if self._train is not None:
            self._progress.remove_task(self._train)
            self._train = None
        self._means = {}

    def _on_measured(self, event: MeasuredEvent) -> None:
        self._drop_side()
        if self._brief:
            return
        for domain, result in event["results"].items():
            # Of all domains, whatever the reference in training is.
            self.say(f"{event['label']}, on {domain}: {_measurement(result, 'nats vs the base')}")

    def _drop_side(self) -> None:
        if self._side is not None:
            self._progress.remove_task(self._side)
            self._side = None

    def _on_progress(self, event: ProgressEvent) -> None:
        self._progress.start()
        if self._side is None:
            self._side = self._progress.add_task(event["task"], total=event["total"], numbers="")
        self._progress.update(
            self._side,
            completed=event["done"],
            total=event["total"],
            description=event["task"],
        )

    def _on_step(self, event: StepEvent) -> None:
        if self._train is None:
            self._started = time.monotonic()
            self._train = self._progress.add_task(
                "training", total=self._total, completed=event["step"] - 1, numbers=""
            )
        self._smooth(event)
        self._progress.update(self._train, completed=event["step"], numbers=self._numbers(event))
        self._plain(event)

    def _smooth(self, event: StepEvent) -> None:
        for key in ("loss", "accuracy", "margin", "pairs_per_s"):
            now: float = event[key]
            before = self._means.get(key, now)
            self._means[key] = SMOOTHING * before + (1 - SMOOTHING) * now

    def _numbers(self, event: StepEvent) -> str:
        means = self._means
        score = f"  score {event['score']:+.2f}" if "score" in event else ""
        return (
            f"loss {means['loss']:.3f}  acc {means['accuracy']:.2f}  margin {means['margin']:+.2f}"
            f"{score}  {event['leader']} leads  {means['pairs_per_s']:.1f} pairs/s"
        )

    def _plain(self, event: StepEvent) -> None:
        now = time.monotonic()
        last = event["step"] == self._total
        if self._live or (now - self._last_plain < PLAIN_EVERY_S and not last):
            return
        self._last_plain = now
        total = f"/{self._total}" if self._total else ""
        self.say(f"step {event['step']}{total}  {self._numbers(event)}{self._time_left(event)}")

    def _time_left(self, event: StepEvent) -> str:
        done = event["step"] - self._first_step
        if not self._total or done < 2:
            return ""
        each = (time.monotonic() - self._started) / (done - 1)
        left = int(each * (self._total - event["step"]))
        return f"  {left // 60}:{left % 60:02d} left"

    def _on_eval(self, event: EvalEvent) -> None:
        self._drop_side()
        if not self._brief:
            moment = f"held-out ({event['moment']}, step {event['step']}, {event['leader']})"
            unit = "reward" if self._rewards else f"nats vs {REFERENCES[self._reference]}"
            self.say(f"{moment}: {_measurement(event, unit)}")

    def _on_swap(self, event: SwapEvent) -> None:
        self.say(f"step {event['step']}: {event['leader']} now leads")

    def _on_warning(self, event: WarningEvent) -> None:
        self.say(f"warning: {event['message']}", style="yellow")

    def _on_stopping(self, event: StopEvent) -> None:
        self.say(
            f"{event['signal']}: finishing this step; press Ctrl-C again to abort",
            style="yellow",
        )

    def _on_stopped(self, event: StopEvent) -> None:
        self.say(
            f"{event['signal']}: stopped after step {event['step']}, checkpoint saved; rerun the "
            "command to resume"
        )

    def _on_already_complete(self, event: CompleteEvent) -> None:
        if not self._brief:
            self.say(f"the run in {event['folder']} is complete")

    def summarise(self, summary: RunSummary | ContinualSummary) -> None:
        """Print the result of a finished run."""
        self._progress.stop()
        if isinstance(summary, ContinualSummary):
            self._summarise_domains(summary)
            return
        start, final = summary.eval["start"], summary.eval["final"]
        if final is not None:
            self.console.print(_comparison(start, final, summary.reference, rewards=self._rewards))
        test_then_train = summary.prequential
        if test_then_train:
            self.say(
                f"test-then-train accuracy {test_then_train['accuracy']:.3f}, loss "
                f"{test_then_train['loss']:.3f}"
            )
        for line in summary.skipped_examples:
            self.say(f"skipped: {line}", style="yellow")
        self.say(
            f"{summary.steps} steps, {summary.pairs_seen} pairs ({_counts(summary.data)}) in "
            f"{summary.wall_s:.0f} s; leader: {summary.leader}"
        )


def _retention(summary: ContinualSummary, key: str) -> Table:
    """The retention matrix R[i][j] with the base's scores as its first row."""
    columns = (f"on {name}" for name in summary.measured)
    against = ", vs the base" if key == "accuracy" else ""
    table = Table(f"{key} after{against}", *columns, box=None, pad_edge=False)
    rows = {"base": summary.initial} | {
        f"{number}. {name}": row
        for number, (name, row) in enumerate(zip(summary.domains, summary.after, strict=True), 1)
    }
    for label, row in rows.items():
        table.add_row(label, *(f"{result[key]:.3f}" for result in row))
    return table


def _measurement(result: Mapping[str, Any], unit: str) -> str:
    """One line; `unit` says what the values of chosen and rejected responses are."""
    sides = (
        f"{side} {result[key]:+.2f}"
        for side in ("chosen", "rejected")
        if result[key := f"{side}_log_ratio"] is not None
    )
    text = (
        f"accuracy {result['accuracy']:.3f}, loss {result['loss']:.3f}, margin "
        f"{result['margin']:+.2f}, {' and '.join(sides)} {unit}"
    )
    if result["reverse_kl"] is not None:
        text += f", reverse KL {result['reverse_kl']:.2f}, {result['mean_length']:.0f} tokens"
    if result["reward"] is not None:
        text += f", reward {result['reward']:+.2f}"
    return text


def _comparison(
    start: dict[str, Any], final: dict[str, Any], reference: str, *, rewards: bool
) -> Table:
    what, unit = ("reward", "") if rewards else ("log-prob", " (nats)")
    against = "" if rewards else f", vs {REFERENCES[reference]}"
    table = Table(f"held-out{against}", "start", "final", box=None, pad_edge=False)
    for key, label, form in (
        ("accuracy", "accuracy", ".3f"),
        ("loss", "loss", ".3f"),
        ("margin", f"margin{unit}", "+.2f"),
        ("chosen_logp", f"{what} of chosen", ".1f"),
        ("rejected_logp", f"{what} of rejected", ".1f"),
        ("reverse_kl", "reverse KL (nats)", ".2f"),
        ("mean_length", "answer length (tokens)", ".1f"),
        ("reward", "judge score", "+.2f"),
        ("win_rate", "win rate vs base", ".3f"),
    ):
        if final[key] is not None:
            table.add_row(label, format(start[key], form), format(final[key], form))
    return table


def _counts(counts: dict[str, int]) -> str:
    """Rows read, and the nonzero counts of rows and pairs treated specially."""
    return ", ".join(
        f"{value} {name.replace('_', ' ')}"
        for name, value in counts.items()
        if value or name == "read"
    )


def _moving(event: StartEvent) -> str:
    moving = event["moving_reference"]
    if moving is None:
        return ""
    steps = "step" if moving["every"] == 1 else f"{moving['every']} steps"
    return f" moving {moving['share']:.3g} of the way to the policy every {steps}"
