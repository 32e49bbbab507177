"""`fastslow validate`: check a recipe and its data without loading the model's weights."""

from pathlib import Path

import typer


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
    encoder, objective = make_encoder(checked, tokenizer), objective_of(checked)
    streams = {"train": train_stream(checked, epochs=1)}
    if checked.data.eval_sources:
        streams["eval"] = eval_stream(checked)
    findings = {}
    examples = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for name, stream in streams.items():
            task = progress.add_task(f"reading {name}", total=stream.count_rows())
            found = inspect_examples(
                stream,
                encoder,
                objective,
                batch_size=checked.train.batch_size,
                progress=lambda rows, task=task: progress.update(task, completed=rows),
            )
            findings[name] = found.as_json()
            examples = examples or found.examples[:show]
    if json_output:
        print(json.dumps(findings))
        return
    console = Console(highlight=False, soft_wrap=True)
    table = Table("", *findings, box=None, pad_edge=False)
    for key in findings["train"]:
        table.add_row(key, *(_cell(values[key]) for values in findings.values()))
    console.print(table)
    for example in examples:
        console.print(masked_example(example, tokenizer))


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in value.items())
    if isinstance(value, list):
        return "\n".join(str(item) for item in value) or "-"
    return str(value)
