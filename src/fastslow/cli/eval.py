"""`fastslow eval`: evaluate a finished run on held-out pairs or with an external tool."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fastslow.cli.arguments import TrustCode, announce_judge, judge_config
from fastslow.cli.console import say, say_json, screen, tell
from fastslow.cli.task_progress import task_progress

if TYPE_CHECKING:
    from fastslow import Run
    from fastslow.config import JudgeConfig
    from fastslow.evaluation import Benchmark


ToolArguments = typer.Argument(
    None, metavar="-- TOOL ARGUMENTS", help="With --with: passed on to the tool's command."
)
Data = typer.Option(
    None,
    help="Pairs to measure on, as data.eval takes them (default: the run's own), or the questions "
    "of a benchmark.",
)
MaxLength = typer.Option(
    None, min=2, help="Longest prompt plus answer, in tokens. Default: data.max_length."
)
Judge = typer.Option(
    None,
    help="Who scores the answers, as in a recipe: '{kind: world, file: world.json}'. Default: the "
    "run's own; without --trust-code only if it runs no Python and asks no server.",
)
Tool = typer.Option(
    None,
    "--with",
    help="Evaluate with lm-eval, alpaca-eval, mt-bench, arena-hard or rewardbench.",
)
ToolPython = typer.Option(
    None, help="With --with: Python of the tool's environment. Default: this one."
)


def evaluate(
    run: Path = typer.Argument(metavar="RUN", help="Run folder."),
    tool_arguments: list[str] = ToolArguments,
    data: list[str] = Data,
    module: str = typer.Option("leader", help="leader, a module's name, reference or base."),
    max_pairs: int = typer.Option(None, min=1, help="Use only the first N pairs or questions."),
    num_prompts: int = typer.Option(
        None, "--num-prompts", "--samples", min=0, help="Prompts to answer for KL and length."
    ),
    max_new_tokens: int = typer.Option(None, min=1, help="Longest answer, in tokens."),
    max_length: int = MaxLength,
    temperature: float = typer.Option(
        None, min=0.0, help="With --with: sampling temperature of the answers."
    ),
    judge: str = Judge,
    seed: int = typer.Option(None, min=0, help="Seed of the sampled answers. Default: the run's."),
    tool: str = Tool,
    tool_python: str = ToolPython,
    read: bool = typer.Option(
        False, "--read", help="With --with: only read the tool's existing results."
    ),
    trust_code: bool = TrustCode,
    json_output: bool = typer.Option(False, "--json", help="Print the measurement as JSON."),
) -> None:
    """Accuracy, margin, log-likelihoods, reverse KL and answer length on held-out pairs.

    With --with, what an external tool measures.
    """
    from fastslow import Run
    from fastslow.adapters.library_logging import quiet_libraries

    quiet_libraries()
    opened = Run.load(run, trust_code=trust_code, max_length=max_length)
    judge_settings = judge_config(judge) if judge else None
    settings: dict[str, Any] = {
        "data": data or None, "module": module, "seed": seed, "max_new_tokens": max_new_tokens,
        "judge": judge_settings and judge_settings.model_dump(mode="json"),
    }  # fmt: skip
    of_tool = {"arguments": tool_arguments or (), "temperature": temperature,
               "python": tool_python, "read": read}  # fmt: skip
    if tool is None:
        why = "has an effect only with --with; other pairs than the run's are given as --data FILE"
        _check_unused(why, of_tool)
        measures = {"max_pairs": max_pairs, "num_prompts": num_prompts}
        _measure(opened, judge_settings, json_output, **settings, **measures)
    else:
        _check_unused("has no effect with --with", {"num_prompts": num_prompts})
        announce_judge(judge_settings)
        _evaluate_with(opened, tool, json_output, limit=max_pairs, **settings, **of_tool)


def _check_unused(why: str, options: Mapping[str, Any]) -> None:
    """Raise ConfigError if one of these options is given."""
    from fastslow.errors import ConfigError

    problems = [
        f"{name}: {why}" for name, value in options.items() if value not in (None, (), False)
    ]
    if problems:
        raise ConfigError(*problems)


def _measure(
    run: "Run", asked: "JudgeConfig | None", json_output: bool, *, module: str, **settings: Any
) -> None:
    """Measure with the training's own code, and print the result."""
    from dataclasses import asdict
    from functools import partial

    from fastslow.evaluation import degradation

    announce_judge(asked or run.recipe.eval.judge or run.recipe.judge)
    name = run.policy(module)
    with task_progress(transient=True) as show:
        measured, counts = run.measure(
            module=module, progress=partial(show, "evaluating"), **settings
        )
    reference, metrics = run.policy("reference"), asdict(measured)
    of_rewards = run.recipe.task == "reward"
    warning = None if name in (reference, "base") else degradation(metrics, rewards=of_rewards)
    if warning:
        tell(f"warning: {warning}")
    if json_output:
        say_json({"module": name, "reference": reference, "data": counts, **metrics})
        return
    start = None if of_rewards else run.recipe.lora.start_from
    against = "base" if reference == "base" else f"the adapter in {start}"
    _show(name, ({} if of_rewards else {"reference": against}) | metrics)


def _evaluate_with(run: "Run", tool: str, json_output: bool, **settings: Any) -> None:
    """Run an external tool, and print its results, or what is left to do by hand."""
    from dataclasses import asdict

    from fastslow import evaluate_with

    evaluation = evaluate_with(run, tool, **settings)
    if json_output:
        result = None if evaluation.result is None else asdict(evaluation.result)
        say_json(
            {"folder": str(evaluation.folder), "result": result, "by_hand": evaluation.by_hand}
        )
    elif evaluation.result is None:
        say(evaluation.by_hand)
    else:
        _show_benchmark(evaluation.result)
        tell(f"files: {evaluation.folder}; also in summary.json and in `fastslow report`")


def _show_benchmark(found: "Benchmark") -> None:
    from rich.table import Table

    version = f" {found.version}" if found.version else ""
    table = Table(f"{found.tool}{version}, {found.module}", "metric", "value", "stderr", "examples",
                  box=None, pad_edge=False)  # fmt: skip
    for score in found.scores:
        stderr = "-" if score.stderr is None else f"{score.stderr:.4g}"
        count = "-" if score.count is None else f"{score.count:,}"
        table.add_row(score.task, score.metric, f"{score.value:.4g}", stderr, count)
    screen().print(table)


def _show(name: str, values: dict[str, Any]) -> None:
    """The measurement of a policy as a table."""
    from rich.table import Table

    from fastslow.cli.run_text import share

    table = Table("held out", name, box=None, pad_edge=False)
    for key, value in values.items():
        if value is not None and f"{key}_low" in values:
            table.add_row(f"{key} (95 % interval)", share(values, key))
        elif value is not None and not key.endswith(("_low", "_high")):
            table.add_row(key, f"{value:.4g}" if isinstance(value, float) else str(value))
    screen().print(table)
