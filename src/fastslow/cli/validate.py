"""`fastslow validate`: check a recipe and its data without loading the model's weights."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from fastslow.cli.arguments import Arguments, recipe_of
from fastslow.cli.console import say_json, screen
from fastslow.cli.task_progress import OnProgress, task_progress
from fastslow.errors import ConfigError

if TYPE_CHECKING:
    from fastslow.config import Recipe
    from fastslow.scoring import Encoder
    from fastslow.training.data.statistics import DataStatistics

OLD_COUNTS = {
    "bad": "invalid",
    "passed_over": "skipped",
    "cut": "truncated",
    "lacking": "missing_fields",
}
"""Old names of counts, still in the JSON for one release."""


def validate(
    arguments: list[str] = Arguments,
    show: int = typer.Option(1, min=0, help="Pairs to show as the model will see them."),
    json_output: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> None:
    """Check the recipe, read all data, and show how pairs are tokenised and masked."""
    checked, renamings = _recipe_and_renamings(arguments)

    from fastslow.adapters import load_tokenizer
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.cli.masked import masked_example
    from fastslow.training.data.dataset import objective_of
    from fastslow.training.distributed.processes import ProcessGroup
    from fastslow.training.memory.estimate import needed_memory
    from fastslow.training.on_policy.prompts import askable_prompts
    from fastslow.training.policies.loading import make_encoder
    from fastslow.training.preflight import check_parts, part_warnings, parts

    quiet_libraries()
    tokenizer = load_tokenizer(checked.model, trust_remote_code=checked.trust_remote_code)
    processes = ProcessGroup(checked.train.device)
    warnings = [
        *renamings,
        *check_parts(checked, processes),
        *part_warnings(checked, processes),
    ]
    findings: dict[str, dict[str, Any]] = {}
    examples = []
    with task_progress(transient=True) as show_progress:
        for label, part in parts(checked).items():
            where = f"{label}: " if label else ""
            encoder = make_encoder(part, tokenizer)
            for name, statistics in _read(part, encoder, show_progress, where):
                findings[name] = statistics.as_json()
                warnings += [
                    f"{name}: {warning}" for warning in statistics.warnings(encoder.max_length)
                ]
                warnings += encoder.warnings([item.example for item in statistics.examples])
                if name.endswith("train"):
                    examples += statistics.examples[:show]
            if (answers := part.online or part.rounds) is not None:
                warnings += askable_prompts(part, answers, encoder)[1]
            if not _is_known(part):
                continue
            memory = needed_memory(
                part, objective_of(part), encoder, processes.device, processes, warn=warnings.append
            )
            if memory is not None:
                findings.setdefault(f"{where}train", {})["memory (GB)"] = memory.gigabytes()
    warnings = list(dict.fromkeys(warnings))
    if json_output:
        _add_old_names(findings)
        say_json(findings | {"warnings": warnings})
        return
    console = screen(highlight=False, soft_wrap=True)
    _print_findings(console, findings, warnings)
    # Before the examples: behind them it would look like part of an answer.
    console.print(_verdict(checked, len(warnings)))
    for example in examples:
        console.print(masked_example(example, tokenizer))


def _recipe_and_renamings(arguments: list[str]) -> tuple["Recipe", list[str]]:
    """The recipe, and the warnings about old names in it, which belong to the findings."""
    import warnings

    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", FutureWarning)
            checked = recipe_of(arguments)
    except ConfigError:
        for each in caught:
            warnings.showwarning(each.message, each.category, each.filename, each.lineno)
        raise
    return checked, list(dict.fromkeys(str(each.message) for each in caught))


def _add_old_names(findings: Mapping[str, dict[str, Any]]) -> None:
    for finding in findings.values():
        if counts := finding.get("rows and pairs"):
            counts |= {old: counts[new] for old, new in OLD_COUNTS.items()}


def _read(
    part: "Recipe", encoder: "Encoder", show: OnProgress, where: str
) -> Iterator[tuple[str, "DataStatistics"]]:
    """Name and statistics of a run's stored data."""
    from functools import partial

    from fastslow.training.data.dataset import (
        eval_objective,
        eval_stream,
        objective_of,
        stored_sources,
        train_stream,
    )
    from fastslow.training.data.statistics import data_statistics

    objective = objective_of(part)
    measured = eval_objective(objective)
    streams: list[tuple[str, Any, Any]] = []
    if stored_sources(part):
        streams.append(("train", train_stream(part, objective, epochs=1), objective))
    if part.data.eval_sources:
        streams.append(("eval", eval_stream(part, measured), measured))
    for name, stream, learned_with in streams:
        task = partial(show, f"reading {where}{name}", total=stream.count_rows())
        yield (
            f"{where}{name}",
            data_statistics(
                stream,
                encoder,
                learned_with,
                batch_size=part.train.batch_size,
                progress=task,
            ),
        )


def _is_known(part: "Recipe") -> bool:
    """Whether its memory can be estimated now: the adapter of an earlier part and the answers of a
    round do not exist yet."""
    from fastslow.config import PART_BEFORE
    from fastslow.training.data.dataset import stored_sources

    known = bool(stored_sources(part) or part.online)
    return known and part.lora.start_from != PART_BEFORE


def _print_findings(
    console: Any, findings: Mapping[str, Mapping[str, Any]], warnings: Sequence[str]
) -> None:
    from rich.table import Table

    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow")
    table = Table("", *findings, box=None, pad_edge=False)
    shown = [_without_zeros(values) for values in findings.values()]
    for key in dict.fromkeys(key for values in shown for key in values):
        table.add_row(key, *(_cell(values.get(key, [])) for values in shown))
    console.print(table)


def _without_zeros(finding: Mapping[str, Any]) -> dict[str, Any]:
    """A finding without its zero counts."""
    nonzero = {name: value for name, value in finding.items() if value != 0}
    if counts := finding.get("rows and pairs"):
        nonzero["rows and pairs"] = {name: n for name, n in counts.items() if n}
    return nonzero


def _verdict(checked: "Recipe", warnings: int) -> str:
    """Whether to train; what cannot be trained at all has already raised an error."""
    ready = "ready to train" if checked.prompts is None else "ready for `fastslow prompts`"
    above = "the warning" if warnings == 1 else f"the {warnings} warnings"
    return f"{ready}; read {above} above" if warnings else ready


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in value.items())
    if isinstance(value, list):
        return "\n".join(str(item) for item in value) or "-"
    return str(value)
