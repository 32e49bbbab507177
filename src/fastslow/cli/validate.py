"""`fastslow validate`: check a recipe and its data without loading the model's weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from fastslow.config import Recipe


def validate(
    recipe: Path = typer.Argument(help="YAML recipe."),
    overrides: list[str] = typer.Argument(
        None, metavar="[SECTION.KEY=VALUE]...", help="Settings that replace the recipe's."
    ),
    show: int = typer.Option(1, min=0, help="Pairs to show as the model will see them."),
    json_output: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> None:
    """Check the recipe, read all data, and show how pairs are tokenised and masked."""
    from fastslow.config import load_recipe
    from fastslow.objectives import objective_problems

    checked = load_recipe(recipe, overrides or [], checks=[objective_problems])

    import json

    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from fastslow.adapters import load_tokenizer
    from fastslow.adapters.quiet import quiet_libraries
    from fastslow.cli.masked import masked_example
    from fastslow.training.assemble import eval_stream, make_encoder, objective_of, train_stream
    from fastslow.training.inspection import inspect_examples

    quiet_libraries()
    tokenizer = load_tokenizer(checked.model, trust_remote_code=checked.trust_remote_code)
    findings: dict[str, Any] = {}
    examples = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for label, part in _parts(checked).items():
            streams = {f"{label}train": train_stream(part, epochs=1)}
            if part.data.eval_sources:
                streams[f"{label}eval"] = eval_stream(part)
            encoder, objective = make_encoder(part, tokenizer), objective_of(part)
            for name, stream in streams.items():
                task = progress.add_task(f"reading {name}", total=stream.count_rows())
                found = inspect_examples(
                    stream,
                    encoder,
                    objective,
                    batch_size=part.train.batch_size,
                    progress=lambda rows, task=task: progress.update(task, completed=rows),
                )
                findings[name] = found.as_json()
                if name.endswith("train"):
                    examples += found.examples[:show]
    if json_output:
        print(json.dumps(findings))
        return
    console = Console(highlight=False, soft_wrap=True)
    table = Table("", *findings, box=None, pad_edge=False)
    for key in dict.fromkeys(key for values in findings.values() for key in values):
        table.add_row(key, *(_cell(values.get(key, [])) for values in findings.values()))
    console.print(table)
    for example in examples:
        console.print(masked_example(example, tokenizer))


def _parts(recipe: "Recipe") -> "dict[str, Recipe]":
    """The recipe, or each of its stages, by what its streams' names begin with."""
    from fastslow.config import stage_recipe

    if not recipe.stages:
        return {"": recipe}
    return {
        f"{stage.name} ": stage_recipe(recipe, index, start_from="the stage before")
        for index, stage in enumerate(recipe.stages)
    }


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in value.items())
    if isinstance(value, list):
        return "\n".join(str(item) for item in value) or "-"
    return str(value)
