"""`fastslow engine`: the engine process of `fastslow serve`, which starts it."""

import typer

LESS_URGENT = 5
"""Added to the niceness: votes come first."""


def engine(
    overrides: list[str] = typer.Argument(help="Settings of a recipe, for the model."),
    address: str = typer.Option(help="Where the server listens."),
    slots: int = typer.Option(help="Number of adapter slots."),
) -> None:
    """Answer for a server."""
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.serve.engine.process import answer_for_server
    from fastslow.serve.supervised import be_less_urgent

    quiet_libraries()
    be_less_urgent(LESS_URGENT)
    answer_for_server(address, overrides, slots=slots)
