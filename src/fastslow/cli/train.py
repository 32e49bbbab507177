"""`fastslow train`: run a recipe, or go on with it where it stopped."""

from pathlib import Path

import typer

STOPPED = 3
"""Exit code of a run that a signal stopped, with a checkpoint."""


def train(
    recipe: Path = typer.Argument(help="YAML recipe."),
    overrides: list[str] = typer.Argument(
        None, metavar="[SECTION.KEY=VALUE]...", help="Settings that replace the recipe's."
    ),
    json_output: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Train on preferences. Ctrl-C writes a checkpoint, from which the same command goes on."""
    from fastslow.config import load_recipe
    from fastslow.objectives import objective_problems

    checked = load_recipe(recipe, overrides or [], checks=[objective_problems])

    import json
    from dataclasses import asdict

    from rich.console import Console

    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.cli.progress import RunDisplay
    from fastslow.training import train as run_recipe
    from fastslow.training.distributed.processes import Team

    quiet_libraries()
    first = Team().rank == 0
    with RunDisplay(None if first else Console(quiet=True)) as display:
        summary = run_recipe(checked, listener=display.show)
        if summary is not None:
            display.summarise(summary)
    if summary is None:
        raise typer.Exit(STOPPED)
    if json_output and first:
        print(json.dumps(asdict(summary)))
