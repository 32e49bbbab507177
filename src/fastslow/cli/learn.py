"""`fastslow learn`: learn updates from the votes of a live folder."""

from pathlib import Path

import typer

from fastslow.cli.console import say
from fastslow.cli.extras import check_installed

LESS_URGENT = 10
"""Added to the niceness: answers come first."""
DEFAULTS = {"objective": {"name": "davidson"}, "train": {"schedule": "constant"}}
"""Ties are learned, and the stream has no end."""


def learn(
    folder: Path = typer.Argument(
        metavar="DIR", help="A server's folder, with its store and adapters."
    ),
    overrides: list[str] = typer.Argument(
        None, metavar="SECTION.KEY=VALUE", help="Settings of a recipe; model=... is required."
    ),
    store: str = typer.Option(
        None, help="postgresql+psycopg://... in place of SQLite in the folder."
    ),
    supervisor: int = typer.Option(None, hidden=True, help="Process that this one ends with."),
    once: bool = typer.Option(False, "--once", help="Learn what is waiting now, then exit."),
    consolidate: bool = typer.Option(
        False, "--consolidate", help="First train one student of what answers in all domains."
    ),
) -> None:
    """Learn from votes as they come: updates pass a gate and answer, or are set aside."""
    from fastslow.config import load_recipe

    recipe = load_recipe(DEFAULTS, overrides or [])  # Before the imports, which take seconds.
    check_installed("fastslow.live.run", what="learning from votes", extra="serve")
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.live.run import learn as run
    from fastslow.serve.supervised import be_less_urgent

    quiet_libraries()
    be_less_urgent(LESS_URGENT)
    run(
        folder,
        recipe,
        store_url=store,
        once=once,
        consolidate=consolidate,
        supervisor=supervisor,
        say=say,
    )
