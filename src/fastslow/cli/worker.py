"""`fastslow worker`: one of the processes of `fastslow serve --workers`, which starts it."""

import typer


def worker(
    socket: int = typer.Option(help="Number of the open file on which it answers."),
    supervisor: int = typer.Option(help="Process without which it ends."),
) -> None:
    """Answer beside other processes."""
    from fastslow.serve.workers import answer_beside_others

    answer_beside_others(socket, supervisor=supervisor)
