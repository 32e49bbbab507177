"""`fastslow prompts`: find the instruction with which a chat model answers best."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from fastslow.cli.arguments import Arguments, announce_judge, recipe_of
from fastslow.cli.console import say_json, screen, tell
from fastslow.cli.task_progress import OnProgress, task_progress
from fastslow.cli.train import STOPPED

if TYPE_CHECKING:
    from fastslow.prompts import PromptSummary


def prompts(
    arguments: list[str] = Arguments,
    json_output: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Optimise an instruction for a black-box chat model (ZOPO).

    Ctrl-C stops after the current candidate; the same command resumes.
    """
    checked = recipe_of(arguments)

    from dataclasses import asdict

    from fastslow import optimise_prompt
    from fastslow.adapters.library_logging import quiet_libraries

    announce_judge(checked.judge)
    quiet_libraries()
    with task_progress(transient=True) as show:
        summary = optimise_prompt(checked, callback=_Display(show))
    if summary is None:
        tell("stopped; rerun the command to resume")
        raise typer.Exit(STOPPED)
    if json_output:
        say_json(asdict(summary))
    else:
        _show(summary)


class _Display:
    """Shows events: progress, and every instruction that is better than those before."""

    def __init__(self, show: OnProgress) -> None:
        self._progress, self._best = show, dict[str, float]()

    def __call__(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "progress":
                self._progress(event["task"], event["done"], event["total"])
            case "pool":
                _tell_of_pool(event)
            case "evaluation":
                self._evaluation(event)
            case "stopping":
                tell(f"{event['signal']}: stopping after this candidate; Ctrl-C again to abort")
            case "already_complete":
                tell(f"{event['folder']} holds the finished run of this recipe")

    def _evaluation(self, event: Mapping[str, Any]) -> None:
        method, best = event["method"], event["best"]
        self._progress(method, event["number"], event["budget"])
        if method not in self._best or best > self._best[method]:
            self._best[method] = best
            tell(f"{method} {event['number']}: {best:.3f}  {event['instruction']}")


def _tell_of_pool(event: Mapping[str, Any]) -> None:
    """Report what a model wrote, and warn where the pool leaves a search little to do."""
    count, wanted, budget, cost = (event[k] for k in ("candidates", "wanted", "budget", "cost"))
    if wanted is not None:
        prefix = "discarded_"
        reasons = [f"{n:,} {k.removeprefix(prefix)}" for k, n in cost.items()
                   if k.startswith(prefix)]  # fmt: skip
        discarded = ", ".join(reasons) or "nothing"
        tell(f"the model wrote {count:,} different instructions of {wanted:,} wanted in "
             f"{cost['calls']:,} tries; discarded: {discarded}")  # fmt: skip
    if count <= budget:
        tell(f"warning: the pool has {count:,} candidates and prompts.budget is {budget:,}: all "
             "are evaluated by every method but initial")  # fmt: skip


def _show(summary: "PromptSummary") -> None:
    from rich.table import Table

    columns = ("method", "validation", "test", "evaluations", "found at")
    table = Table(*columns, box=None, pad_edge=False)
    for name, result in summary.methods.items():
        tested = "-" if result.test is None else f"{result.test:.3f}"
        numbers = (f"{result.validation:.3f}", tested, str(result.evaluations))
        table.add_row(name, *numbers, str(result.found_at))
    to = screen(highlight=False, soft_wrap=True)
    to.print(table)
    for name, result in summary.methods.items():  # Of any length, so in no column.
        to.print(f"{name}: {result.instruction}")
    cost = ", ".join(f"{key.replace('_', ' ')} {count:,}" for key, count in summary.cost.items())
    written = summary.pool_cost.get("calls", 0)
    tell(f"{summary.evaluated} of {summary.pool} candidates asked: {cost}; {written:,} calls "
         "to write the pool")  # fmt: skip
