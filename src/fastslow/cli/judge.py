"""`fastslow judge`: whether a recipe's judge agrees with labels and with itself."""

import typer

from fastslow.cli.arguments import Arguments, announce_judge, source_of
from fastslow.cli.console import say_json, screen, tell
from fastslow.cli.task_progress import task_progress


def judge(
    arguments: list[str] = Arguments,
    data: list[str] = typer.Option(
        None, help="Labelled pairs, as data.eval takes them. Default: the recipe's data.eval."
    ),
    pairs: int = typer.Option(100, min=1, help="Ask about the first N pairs; ties do not count."),
    of_eval: bool = typer.Option(
        False, "--eval", help="Check the judge in eval, not the one learned from."
    ),
    json_output: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> None:
    """Ask the judge about labelled pairs, in both orders and once more."""
    import sys
    from contextlib import redirect_stdout
    from dataclasses import asdict
    from functools import partial

    from rich.table import Table

    from fastslow import check_judge
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.config import load_recipe

    source, settings = source_of(arguments)
    checked = load_recipe(source, settings)
    announce_judge(checked.eval.judge if of_eval else checked.judge or checked.eval.judge)
    quiet_libraries()
    # What a rule prints does not belong to the findings.
    with task_progress(transient=True) as show, redirect_stdout(sys.stderr):
        findings = check_judge(
            checked,
            data or None,
            pairs=pairs,
            of_eval=of_eval,
            progress=partial(show, "asking"),
        )
    for warning in findings.warnings:
        tell(f"warning: {warning}")
    if json_output:
        say_json(asdict(findings))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    rows = {
        "judge": findings.judge,
        "pairs": str(findings.pairs),
        "agreement with labels": _share(
            findings.agreement, findings.agreement_low, findings.agreement_high
        ),
        "ties": f"{findings.ties:.3f}",
        "position consistency": _share(
            findings.consistent, findings.consistent_low, findings.consistent_high
        ),
        "repeat consistency": f"{findings.repeatable:.3f}",
        "seconds per pair": f"{findings.seconds:.3g}",
        **{key.replace("_", " "): f"{value:,}" for key, value in findings.cost.items()},
    }
    for name, value in rows.items():
        table.add_row(name, value)
    screen(highlight=False, soft_wrap=True).print(table)


def _share(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
