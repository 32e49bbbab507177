"""`fastslow combine`: combine modules of finished runs and banks into one adapter."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fastslow.cli.arguments import TrustCode
from fastslow.cli.console import say_json, screen, tell
from fastslow.cli.task_progress import task_progress

if TYPE_CHECKING:
    from fastslow.training.continual.combined import Combination


def combine(
    sources: list[Path] = typer.Argument(
        metavar="SOURCE",
        help="Banks, entries of a bank, or run folders; a continual run stands for its bank.",
    ),
    to: Path = typer.Option(help="Folder to write; it must not exist."),
    weights: str = typer.Option(
        "learned",
        help="uniform, fixed, grid, learned, regmean; distilled (one adapter learns from all); or "
        "routed (one a prompt).",
    ),
    fixed: list[float] = typer.Option(
        None, "--fixed", help="Weight of each module, in their order; repeatable."
    ),
    recompress: int = typer.Option(
        None,
        min=1,
        help="Largest rank. Default: the sum of all ranks (exact); for a student, the recipe's.",
    ),
    budget: float = typer.Option(
        None,
        help="Largest reverse KL to the base, nats per answer, to which the result is scaled down; "
        "inf for none. Default: that of the last source's recipe.",
    ),
    model: str = typer.Option(None, help="The base model, if it is not where the run recorded it."),
    trust_code: bool = TrustCode,
    json_output: bool = typer.Option(False, "--json", help="Print the combination as JSON."),
) -> None:
    """Sum past modules exactly into one PEFT adapter, with weights fitted on kept examples."""
    from dataclasses import asdict
    from functools import partial

    from rich.table import Table

    from fastslow import combine as combine_modules
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.training.continual.combination import task_of

    quiet_libraries()
    with task_progress(transient=True) as show:
        policy = combine_modules(
            sources,
            to,
            weights,
            fixed=fixed,
            recompress=recompress,
            budget=budget,
            model=model,
            trust_code=trust_code,
            progress=partial(show, task_of(weights)),
        )
    made = policy.combination
    if json_output:
        say_json(asdict(made))
        return
    table = Table("module", "domain", "weight", box=None, pad_edge=False)
    for name, domain in policy.domains.items():
        table.add_row(name, domain, _weight(made, name))
    screen().print(table)
    tell(f"{_made(made)}: {to}")


def _weight(made: "Combination", name: str) -> str:
    if made.weights is not None:
        return f"{made.weights[name]:.3f}"
    return "by prompt" if made.rank is None else "learned from"


def _made(made: "Combination") -> str:
    if made.rank is None:
        return f"one module for each prompt{_within(made)}"
    what = "one adapter" if made.weights is None else f"{made.kind} sum"
    far = f", {made.kl:.3f} nats per response from the modules" if made.kl is not None else ""
    lost = f", {made.lost:.1%} of the update lost" if made.lost is not None else ""
    return f"{what} of rank {made.rank}{far}{lost}{_within(made)}"


def _within(made: "Combination") -> str:
    if made.budget is None or made.budget["strength"] == 1:
        return ""
    return (
        f", scaled down to {made.budget['strength']:.2f} to be within {made.budget['limit']:.2f} "
        "nats per answer of the base"
    )
