"""The `fastslow` command: one verb per file, heavy imports inside the functions.

Exit codes: 0 done, 1 the training or its state failed, 2 the request or the data is wrong, 3 a
signal stopped the run, which has a checkpoint, 130 interrupted on the spot.
"""

import gc
import sys
import warnings
from pathlib import Path
from typing import Any

import typer

from fastslow.cli.bench import app as bench
from fastslow.cli.combine import combine
from fastslow.cli.demo import demo
from fastslow.cli.eval import evaluate
from fastslow.cli.export import export
from fastslow.cli.judge import judge
from fastslow.cli.recipe import recipe
from fastslow.cli.recipes import recipes
from fastslow.cli.report import report
from fastslow.cli.sample import sample
from fastslow.cli.train import train
from fastslow.cli.train_reward import train_reward
from fastslow.cli.validate import validate
from fastslow.cli.world import world
from fastslow.errors import FastslowError, StateError

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended on the spot."""
COLLECTED_EVERY = 50_000
"""New objects after which garbage is looked for. Imports make 700,000 that stay; Python's own 700
has them looked through so often that it takes a twentieth of the time until the first step."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Teach a language model from a stream of human preferences, online.",
)
app.command()(demo)
app.command()(train)
app.command()(train_reward)
app.command(name="eval")(evaluate)
app.command()(sample)
app.command()(validate)
app.command()(recipe)
app.command()(recipes)
app.command()(judge)
app.command()(export)
app.command()(combine)
app.command()(report)
app.command()(world)
app.add_typer(bench, name="bench")


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Teach a language model from a stream of human preferences, online."""
    if show:
        from importlib.metadata import version as installed

        print(f"fastslow {installed('fastslow')}")
        raise typer.Exit


def run() -> None:
    """The command's entry point: errors meant for the user come out as one message."""
    gc.set_threshold(COLLECTED_EVERY)
    show_warnings_plainly()
    try:
        app()
    except FastslowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, StateError) else 2)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("interrupted; a run goes on with the same command", file=sys.stderr)
        raise


def show_warnings_plainly() -> None:
    """From now on what fastslow warns of comes out as one line, and once."""
    package, others, shown = str(Path(__file__).parents[1]), warnings.showwarning, set[str]()

    def show(
        message: Warning | str, category: type[Warning], filename: str, *rest: Any, **named: Any
    ) -> None:
        if not (issubclass(category, FutureWarning) and filename.startswith(package)):
            others(message, category, filename, *rest, **named)
        elif (text := str(message)) not in shown:
            shown.add(text)
            print(f"warning: {text}", file=sys.stderr)

    warnings.showwarning = show
