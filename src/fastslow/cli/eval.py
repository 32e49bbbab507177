"""`fastslow eval`: measure a finished run on held-out pairs."""

from pathlib import Path

import typer


def evaluate(
    run: Path = typer.Argument(help="Run folder."),
    data: list[str] = typer.Option(
        None,
        help="Pairs to measure on, as data.eval takes them. Default: the run's own.",
    ),
    module: str = typer.Option("leader", help="leader, a module's name, reference or base."),
    max_pairs: int = typer.Option(None, min=1, help="Use the first so many pairs."),
    samples: int = typer.Option(None, min=0, help="Prompts to answer for KL and length."),
    seed: int = typer.Option(None, min=0, help="Seed of the sampled answers. Default: the run's."),
    json_output: bool = typer.Option(False, "--json", help="Print the measurement as JSON."),
) -> None:
    """Accuracy, margin, log-likelihoods, reverse KL and answer length on held-out pairs."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.training.build import held_out
    from fastslow.training.data.dataset import eval_objective
    from fastslow.training.export.open_run import open_run, read_run

    quiet_libraries()
    read_run(run)
    finished = open_run(run)
    recipe = finished.recipe
    recipe = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"eval": data or recipe.all_eval_sources}),
            "eval": recipe.eval.model_copy(update=_given(max_pairs=max_pairs, samples=samples)),
            **_given(seed=seed),
        }
    )
    heldout, counts = held_out(recipe, finished.encoder)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=None)
        measured = heldout.measure(
            finished.policies,
            finished.policy(module),
            reference=finished.reference,
            objective=eval_objective(recipe),
            state=finished.remembered(finished.policy(module)),
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    result = {"module": finished.policy(module), "data": counts, **asdict(measured)}
    if json_output:
        print(json.dumps(result))
        return
    table = Table("held out", finished.policy(module), box=None, pad_edge=False)
    for key, value in asdict(measured).items():
        if value is not None:
            table.add_row(key, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table)


def _given(**options: object) -> dict[str, object]:
    """The options that were given; the recipe's stand for the others."""
    return {key: value for key, value in options.items() if value not in (None, [])}
