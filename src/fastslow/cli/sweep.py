"""`fastslow sweep`: a grid over any keys of a recipe, with seeds."""

import typer

from fastslow.cli.arguments import Arguments
from fastslow.cli.console import say_json, tell
from fastslow.cli.stopping import stoppable
from fastslow.cli.tables import show_tables
from fastslow.cli.task_progress import task_progress


def sweep(
    arguments: list[str] = Arguments,
    seeds: int = typer.Option(
        1, min=1, help="Runs of each cell; seeds count up from the recipe's."
    ),
    by: str = typer.Option(
        "accuracy", help="Held-out metric to rank by: accuracy, loss, reward or win_rate."
    ),
    workers: int = typer.Option(
        1, min=1, help="Trainings in parallel, one thread each if more than one."
    ),
    json_output: bool = typer.Option(False, "--json", help="Print the results as JSON."),
) -> None:
    """Train every combination of `section.key=first,second,...`; the same command resumes."""
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.bench.sweep import plan_sweep, run_sweep
    from fastslow.bench.sweep_table import as_markdown
    from fastslow.cli.arguments import source_of

    quiet_libraries()
    planned = plan_sweep(*source_of(arguments), seeds=seeds)
    count = sum(len(cell.recipes) for cell in planned.cells)
    tell(f"{count} runs in {planned.folder}")
    with stoppable(), task_progress() as on_step:
        results = run_sweep(planned, by=by, workers=workers, on_step=on_step)
    if json_output:
        say_json(results)
        return
    show_tables(as_markdown(results), planned.folder / "sweep.json", planned.folder / "table.md")
