"""The `fastslow` command: one verb per file, heavy imports inside the functions.

Exit codes: 0 success; 1 training or its state failed; 2 the recipe, arguments or data are invalid;
3 a signal stopped the run after saving a checkpoint; 130 aborted by Ctrl-C.
"""

import gc
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import typer

from fastslow.cli.arguments import RecipeCommand
from fastslow.cli.bench import app as bench
from fastslow.cli.combine import combine
from fastslow.cli.console import tell
from fastslow.cli.convert import convert
from fastslow.cli.demo import demo
from fastslow.cli.engine import engine
from fastslow.cli.eval import evaluate
from fastslow.cli.export import export
from fastslow.cli.judge import judge
from fastslow.cli.learn import learn
from fastslow.cli.prompts import prompts
from fastslow.cli.push import push
from fastslow.cli.recipe import recipe
from fastslow.cli.recipes import recipes
from fastslow.cli.report import report
from fastslow.cli.sample import sample
from fastslow.cli.serve import serve
from fastslow.cli.streams import nobody_reads, survive_a_lost_display
from fastslow.cli.sweep import sweep
from fastslow.cli.train import train
from fastslow.cli.train_reward import train_reward
from fastslow.cli.validate import validate
from fastslow.cli.worker import worker
from fastslow.cli.world import world
from fastslow.errors import FastslowError, StateError

INTERRUPTED = 130
"""Exit code of a command aborted by Ctrl-C."""
COLLECTED_EVERY = 50_000
"""Allocations between garbage collections. Imports create 700,000 long-lived objects; with Python's
default of 700, collections take a twentieth of the time until the first step."""
SPINS = "3000"
"""Iterations that a thread spins while it waits for the others of its step. libgomp's default is a
hundred times as many: no faster on idle cores, and a tenth of the speed on busy ones."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Online preference learning for language models with LoRA.",
)
app.command()(demo)
app.command(cls=RecipeCommand)(train)
app.command(cls=RecipeCommand)(train_reward)
app.command(name="eval")(evaluate)
app.command()(sample)
app.command(cls=RecipeCommand)(validate)
app.command()(recipe)
app.command()(recipes)
app.command()(convert)
app.command(cls=RecipeCommand)(judge)
app.command()(export)
app.command()(push)
app.command()(combine)
app.command(cls=RecipeCommand)(prompts)
app.command()(report)
app.command(cls=RecipeCommand)(sweep)
app.command(cls=RecipeCommand)(serve)
app.command(cls=RecipeCommand)(learn)
app.command(hidden=True)(worker)
app.command(hidden=True)(engine)
app.command()(world)
app.add_typer(bench, name="bench")


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Online preference learning for language models with LoRA."""
    if show:
        from importlib.metadata import version as installed

        print(f"fastslow {installed('fastslow')}")
        raise typer.Exit


def run() -> None:
    """Entry point of the command; errors meant for the user are printed as one message."""
    gc.set_threshold(COLLECTED_EVERY)
    wait_briefly()
    show_warnings_plainly()
    survive_a_lost_display()
    try:
        app()
    except FastslowError as error:
        tell(f"error: {error}")
        sys.exit(_code(error))
    except BrokenPipeError:  # For example `fastslow sample ... | head`.
        nobody_reads(sys.stdout)
        sys.exit(1)
    except OSError as error:
        from fastslow.disk_errors import disk_error

        if (fault := disk_error(error)) is None:
            raise
        tell(f"error: {fault}")
        sys.exit(_code(fault))
    except SystemExit as end:
        if end.code == INTERRUPTED:
            tell("interrupted; rerun the command to resume")
        raise


def wait_briefly() -> None:
    """Have torch's threads spin only briefly when they wait, unless the environment says otherwise.

    Call it before torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def _code(error: FastslowError) -> int:
    return 1 if isinstance(error, StateError) else 2


def show_warnings_plainly() -> None:
    """From now on print each of fastslow's warnings as one line, and once."""
    package, original, shown = str(Path(__file__).parents[1]), warnings.showwarning, set[str]()

    def show(
        message: Warning | str, category: type[Warning], filename: str, *rest: Any, **named: Any
    ) -> None:
        if not (
            issubclass(category, (FutureWarning, UserWarning)) and filename.startswith(package)
        ):
            original(message, category, filename, *rest, **named)
        elif (text := str(message)) not in shown:
            shown.add(text)
            tell(f"warning: {text}")

    warnings.showwarning = show
