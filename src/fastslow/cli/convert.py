"""`fastslow convert`: the YAML of `trl dpo` or LLaMA-Factory as a recipe."""

from pathlib import Path

import typer

from fastslow.cli.console import say, tell


def convert(
    file: Path = typer.Argument(
        metavar="FILE", help="A YAML of `trl dpo` or of LLaMA-Factory (stage dpo or kto)."
    ),
    settings: list[str] = typer.Argument(
        None, metavar="SECTION.KEY=VALUE", help="Settings that override the converted recipe."
    ),
    kind: str = typer.Option(
        None, "--from", help="trl or llama-factory. Default: detected from the keys."
    ),
    drop: list[str] = typer.Option(
        None, help="Drop this key even though it changes what is trained."
    ),
    processes: int = typer.Option(
        1, min=1, help="Processes (GPUs) that the run used, each with its own batch."
    ),
) -> None:
    """Convert a YAML of TRL or LLaMA-Factory to a recipe; says what became of every key.

    `> recipe.yaml` keeps both.
    """
    from fastslow.config import load_recipe
    from fastslow.convert import convert as convert_file
    from fastslow.objectives import objective_problems

    made = convert_file(
        file, kind=kind, settings=settings or [], dropped=drop or [], processes=processes
    )
    load_recipe(made.recipe, checks=[objective_problems])
    say(made.text().removesuffix("\n"))
    tell("next: `fastslow validate` reads the data and shows a pair as the model will see it")
