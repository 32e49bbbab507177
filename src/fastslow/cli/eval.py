"""`fastslow eval`: measure a finished run on held-out pairs."""

from pathlib import Path
from typing import Any

import typer

from fastslow.cli.arguments import TrustCode, announce_judge, judge_config
from fastslow.cli.console import say_json, screen, tell
from fastslow.cli.task_progress import task_progress


def evaluate(
    run: Path = typer.Argument(help="Run folder."),
    data: list[str] = typer.Option(
        None,
        help="Pairs to measure on, as data.eval takes them. Default: the run's own.",
    ),
    module: str = typer.Option("leader", help="leader, a module's name, reference or base."),
    max_pairs: int = typer.Option(None, min=1, help="Use the first so many pairs."),
    num_prompts: int = typer.Option(
        None, "--num-prompts", "--samples", min=0, help="Prompts to answer for KL and length."
    ),
    judge: str = typer.Option(
        None,
        help="Who scores the answers, as in a recipe: '{kind: world, file: world.json}'. Default: "
        "the run's own; without --trust-code only if it runs no Python and asks no server.",
    ),
    seed: int = typer.Option(None, min=0, help="Seed of the sampled answers. Default: the run's."),
    trust_code: bool = TrustCode,
    json_output: bool = typer.Option(False, "--json", help="Print the measurement as JSON."),
) -> None:
    """Accuracy, margin, log-likelihoods, reverse KL and answer length on held-out pairs."""
    from dataclasses import asdict
    from functools import partial

    from fastslow import Run
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.evaluation import degradation

    quiet_libraries()
    opened = Run.load(run, trust_code=trust_code)
    asked = judge_config(judge) if judge else None
    announce_judge(asked or opened.recipe.eval.judge or opened.recipe.judge)
    name = opened.policy(module)
    with task_progress(transient=True) as show:
        measured, counts = opened.measure(
            data or None,
            module=module,
            max_pairs=max_pairs,
            num_prompts=num_prompts,
            judge=asked and asked.model_dump(mode="json"),
            seed=seed,
            progress=partial(show, "evaluating"),
        )
    reference, metrics = opened.policy("reference"), asdict(measured)
    of_rewards = opened.recipe.task == "reward"
    warning = None if name in (reference, "base") else degradation(metrics, rewards=of_rewards)
    if warning:
        tell(f"warning: {warning}")
    if json_output:
        say_json({"module": name, "reference": reference, "data": counts, **metrics})
        return
    start = None if of_rewards else opened.recipe.lora.start_from
    against = "base" if reference == "base" else f"the adapter in {start}"
    _show(name, ({} if of_rewards else {"reference": against}) | metrics)


def _show(name: str, values: dict[str, Any]) -> None:
    """The measurement of a policy as a table."""
    from rich.table import Table

    table = Table("held out", name, box=None, pad_edge=False)
    for key, value in values.items():
        if value is not None:
            table.add_row(key, f"{value:.4g}" if isinstance(value, float) else str(value))
    screen().print(table)
