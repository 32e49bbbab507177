"""`fastslow train`: run a recipe, or resume it where it stopped."""

import typer

from fastslow.cli.arguments import Arguments, recipe_of
from fastslow.cli.console import say_json, screen

STOPPED = 3
"""Exit code of a run that a signal stopped, with a checkpoint."""


def train(
    arguments: list[str] = Arguments,
    json_output: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Train on preferences. Ctrl-C writes a checkpoint, from which the same command resumes."""
    checked = recipe_of(arguments)

    from dataclasses import asdict

    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.cli.progress import RunDisplay
    from fastslow.training import train as run_recipe
    from fastslow.training.distributed.processes import ProcessGroup

    quiet_libraries()
    first = ProcessGroup(checked.train.device).rank == 0
    with RunDisplay(None if first else screen(quiet=True)) as display:
        summary = run_recipe(checked, listener=display.show)
        if summary is not None:
            display.summarise(summary, folder=checked.output_dir, task=checked.task)
    if summary is None:
        raise typer.Exit(STOPPED)
    if json_output and first:
        say_json(asdict(summary))
