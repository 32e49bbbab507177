"""The progress display of a run: a live bar on a terminal, plain lines elsewhere.

Everything goes to standard error; standard output is reserved for results that scripts read.
"""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fastslow.cli.console import screen
from fastslow.cli.run_text import (
    REFERENCES,
    acknowledged,
    comparison,
    counts,
    measurement,
    moving,
    next_commands,
    processes,
    retention,
)
from fastslow.cli.task_progress import PLAIN_EVERY_S, ProgressLines
from fastslow.evaluation import scaled_to_budget
from fastslow.training.state.events import (
    AnswersEvent,
    BeyondBudgetEvent,
    BudgetEvent,
    CompleteEvent,
    EvalEvent,
    Event,
    MeasuredEvent,
    MoreEvent,
    PartEvent,
    ProgressEvent,
    PublishedEvent,
    StartEvent,
    StepEvent,
    StopEvent,
    SwapEvent,
    WarningEvent,
)
from fastslow.training.state.summary import ContinualSummary, RunSummary

SMOOTHING = 0.9


class RunDisplay:
    """Shows the events of one run, of its stages or of several domains.

    A `brief` display omits the lines before training starts and the evaluations.
    """

    def __init__(self, console: Console | None = None, *, brief: bool = False) -> None:
        self._brief = brief
        self.console = console or screen(stderr=True, soft_wrap=True)
        self._live = self.console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
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
        self._told_beyond: set[str] = set()
        self._lines = ProgressLines(self.say)

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
        self.console.print(text, style=style, highlight=False, markup=False)

    def _on_start(self, event: StartEvent) -> None:
        self._progress.start()  # Not earlier: the model's loading bar comes first.
        self._total, self._first_step = event["total_steps"], event["step"]
        self._rewards = event["task"] == "reward"
        self._reference = event["reference"]
        if self._brief:
            return
        self.say(
            f"objective {event['objective']}, modules {' and '.join(event['modules'])}, "
            f"reference {event['reference']}{moving(event)}, device {event['device']}"
            + (" in bfloat16" if event["bfloat16"] else "")
            + processes(event)
            + (", base sharded (FSDP2)" if event["sharded"] else "")
        )
        if event["layout"] != "trees":
            self.say(f"scoring {event['layout']}", style="yellow")
        if event["memory"]:
            self.say(f"memory: about {event['memory']}")
        if event["heldout"]:
            self.say(f"held-out rows: {counts(event['heldout'])}")
        if event["resumed"]:
            self.say(f"resuming from step {event['step']}")

    def _summarise_domains(self, summary: ContinualSummary) -> None:
        for key, kept in summary.metrics.items():
            self.console.print(retention(summary, key))
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
            # Always relative to the base, whatever the reference in training is.
            self.say(f"{event['label']}, on {domain}: {measurement(result, 'nats vs the base')}")

    def _drop_side(self) -> None:
        if self._side is not None:
            self._progress.remove_task(self._side)
            self._side = None

    def _on_progress(self, event: ProgressEvent) -> None:
        self._progress.start()
        if not self._live:
            self._lines(event["task"], event["done"], event["total"])
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
        leads = f"  {event['leader']} leads" if len(event["modules"]) > 1 else ""
        score = f"  score {event['score']:+.2f}" if "score" in event else ""
        return (
            f"loss {means['loss']:.3f}  acc {means['accuracy']:.2f}  margin {means['margin']:+.2f}"
            f"{score}{leads}  {means['pairs_per_s']:.1f} pairs/s"
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
            self.say(f"{moment}: {measurement(event, unit)}")

    def _on_swap(self, event: SwapEvent) -> None:
        self.say(f"step {event['step']}: {event['leader']} now leads")

    def _on_beyond_budget(self, event: BeyondBudgetEvent) -> None:
        for name, far in event["modules"].items():
            if name not in self._told_beyond:
                self._told_beyond.add(name)
                self.say(f"step {event['step']}: {name} is at {far:.1f} times the KL budget")

    def _on_budget(self, event: BudgetEvent) -> None:
        self.say(scaled_to_budget(event, event["module"]), style="yellow")

    def _on_warning(self, event: WarningEvent) -> None:
        self.say(f"warning: {event['message']}", style="yellow")

    def _on_stopping(self, event: StopEvent) -> None:
        self.say(acknowledged(event["signal"]), style="yellow")

    def _on_stopped(self, event: StopEvent) -> None:
        self.say(
            f"{event['signal']}: stopped after step {event['step']}, checkpoint saved; rerun the "
            "command to resume"
        )

    def _on_published(self, event: PublishedEvent) -> None:
        self.say(f"step {event['step']}: published {event['path']}")

    def _on_more(self, event: MoreEvent) -> None:
        for name, count in event["rows"].items():
            rows = "rows" if count is None else "1 row" if count == 1 else f"{count:,} rows"
            self.say(f"takes {rows} added to {name}")

    def _on_already_complete(self, event: CompleteEvent) -> None:
        if not self._brief:
            again = event.get("repeated", 0)
            known = f"; the {again:,} rows of standard input were learned before" if again else ""
            self.say(f"the run in {event['folder']} is complete{known}")

    def summarise(self, summary: RunSummary | ContinualSummary, *, folder: str, task: str) -> None:
        """Print the result of a finished run, where it is, and what can be done with it."""
        self._progress.stop()
        self._rewards = task == "reward"
        if isinstance(summary, ContinualSummary):
            self._summarise_domains(summary)
            held_out = bool(summary.measured)
        else:
            self._summarise_run(summary)
            held_out = summary.eval["final"] is not None
        commands = next_commands(folder, task, held_out=held_out)
        self.say(f"run folder: {folder}; next: {commands}")

    def _summarise_run(self, summary: RunSummary) -> None:
        start, final = summary.eval["start"], summary.eval["final"]
        if start is not None and final is not None:
            self.console.print(comparison(start, final, summary.reference, rewards=self._rewards))
        test_then_train = summary.prequential
        if test_then_train:
            self.say(
                f"test-then-train accuracy {test_then_train['accuracy']:.3f}, loss "
                f"{test_then_train['loss']:.3f}"
            )
        for line in summary.skipped_examples:
            self.say(f"skipped: {line}", style="yellow")
        several = len(summary.adapters) > 1
        self.say(
            f"{summary.steps} steps, {summary.pairs_seen} pairs ({counts(summary.data)}) in "
            f"{summary.wall_s:.0f} s" + (f"; leader: {summary.leader}" if several else "")
        )
