"""`fastslow train`: run a recipe, or go on with it where it stopped."""

from pathlib import Path

import typer


def train(
    recipe: Path = typer.Argument(help="YAML recipe."),
    overrides: list[str] = typer.Argument(
        None, metavar="[SECTION.KEY=VALUE]...", help="Settings that replace the recipe's."
    ),
    json_output: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Train on preference pairs. Ctrl-C writes a checkpoint; the same command then goes on."""
    from fastslow.config import load_recipe
    from fastslow.objectives import objective_problems

    checked = load_recipe(recipe, overrides or [], checks=[objective_problems])

    import json
    from dataclasses import asdict

    from fastslow.adapters.quiet import quiet_libraries
    from fastslow.cli.progress import RunDisplay
    from fastslow.training import train as run_recipe

    quiet_libraries()
    with RunDisplay() as display:
        summary = run_recipe(checked, listener=display.show)
        if summary is not None:
            display.summarise(summary)
    if json_output and summary is not None:
        print(json.dumps(asdict(summary)))
