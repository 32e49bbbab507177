"""`fastslow validate`: check a recipe and its data without loading the model's weights."""

from typing import Any

import typer

from fastslow.cli.arguments import Arguments, recipe_of


def validate(
    arguments: list[str] = Arguments,
    show: int = typer.Option(1, min=0, help="Pairs to show as the model will see them."),
    json_output: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> None:
    """Check the recipe, read all data, and show how pairs are tokenised and masked."""
    checked = recipe_of(arguments)

    import json
    from functools import partial

    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress
    from rich.table import Table

    from fastslow.adapters import load_tokenizer
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.cli.masked import masked_example
    from fastslow.config import STAGE_BEFORE
    from fastslow.training.data.dataset import (
        eval_objective,
        eval_stream,
        objective_of,
        stored_sources,
        train_stream,
    )
    from fastslow.training.data.statistics import data_statistics
    from fastslow.training.distributed.processes import ProcessGroup
    from fastslow.training.memory.estimate import needed_memory
    from fastslow.training.policies.loading import make_encoder
    from fastslow.training.preflight import check_parts, parts

    quiet_libraries()
    tokenizer = load_tokenizer(checked.model, trust_remote_code=checked.trust_remote_code)
    processes = ProcessGroup()
    warnings = check_parts(checked, processes)
    findings: dict[str, Any] = {}
    examples = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for label, part in parts(checked).items():
            where = f"{label}: " if label else ""
            streams, objective = {}, objective_of(part)
            if stored_sources(part):
                streams[f"{where}train"] = train_stream(part, objective, epochs=1)
            if part.data.eval_sources:
                streams[f"{where}eval"] = eval_stream(part, eval_objective(objective))
            encoder = make_encoder(part, tokenizer)
            for name, stream in streams.items():
                task = progress.add_task(f"reading {name}", total=stream.count_rows())
                found = data_statistics(
                    stream,
                    encoder,
                    eval_objective(objective) if name.endswith("eval") else objective,
                    batch_size=part.train.batch_size,
                    progress=partial(_advance, progress, task),
                )
                findings[name] = found.as_json()
                if name.endswith("train"):
                    examples += found.examples[:show]
            # The adapter of a stage before is not there yet, nor are the answers of a round.
            if part.lora.start_from == STAGE_BEFORE or not (stored_sources(part) or part.online):
                continue
            memory = needed_memory(
                part, objective, encoder, processes.device, processes, warn=warnings.append
            )
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
