"""`fastslow validate`: check a recipe and its data without loading the model's weights."""

from pathlib import Path
from typing import Any

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
    from fastslow.config import STAGE_BEFORE, load_recipe
    from fastslow.objectives import objective_problems

    checked = load_recipe(recipe, overrides or [], checks=[objective_problems])

    import json
    from functools import partial

    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress
    from rich.table import Table

    from fastslow.adapters import load_tokenizer
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.cli.masked import masked_example
    from fastslow.training.build import make_encoder, make_modules
    from fastslow.training.data.dataset import (
        eval_objective,
        eval_stream,
        objective_of,
        stored_sources,
        train_stream,
    )
    from fastslow.training.data.statistics import inspect_examples
    from fastslow.training.distributed.processes import Team
    from fastslow.training.memory.estimate import needed_memory
    from fastslow.training.preflight import check_parts, parts

    quiet_libraries()
    tokenizer = load_tokenizer(checked.model, trust_remote_code=checked.trust_remote_code)
    warnings, device = check_parts(checked), Team().device
    findings: dict[str, Any] = {}
    examples = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for label, part in parts(checked).items():
            where = f"{label}: " if label else ""
            streams = {}
            if stored_sources(part):
                streams[f"{where}train"] = train_stream(part, epochs=1)
            if part.data.eval_sources:
                streams[f"{where}eval"] = eval_stream(part)
            encoder = make_encoder(part, tokenizer)
            for name, stream in streams.items():
                task = progress.add_task(f"reading {name}", total=stream.count_rows())
                found = inspect_examples(
                    stream,
                    encoder,
                    eval_objective(part) if name.endswith("eval") else objective_of(part),
                    batch_size=part.train.batch_size,
                    progress=partial(_advance, progress, task),
                )
                findings[name] = found.as_json()
                if name.endswith("train"):
                    examples += found.examples[:show]
            # The adapter of a stage before is not there yet, nor are the answers of a round.
            if part.lora.start_from == STAGE_BEFORE or not (stored_sources(part) or part.online):
                continue
            memory = needed_memory(part, encoder, make_modules, device, warn=warnings.append)
            if memory is not None:
                findings.setdefault(f"{where}train", {})["memory (GB)"] = memory.gigabytes()
    if json_output:
        print(json.dumps(findings))
        return
    console = Console(highlight=False, soft_wrap=True)
    for warning in warnings:
        console.print(f"warning: {escape(warning)}", style="yellow")
    table = Table("", *findings, box=None, pad_edge=False)
    for key in dict.fromkeys(key for values in findings.values() for key in values):
        table.add_row(key, *(_cell(values.get(key, [])) for values in findings.values()))
    console.print(table)
    for example in examples:
        console.print(masked_example(example, tokenizer))


def _advance(progress: Any, task: Any, rows: int) -> None:
    progress.update(task, completed=rows)


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in value.items())
    if isinstance(value, list):
        return "\n".join(str(item) for item in value) or "-"
    return str(value)
