"""`fastslow worker`: one of the processes of `fastslow serve --workers`, which starts it."""

import typer


def worker(
    socket: int = typer.Option(help="File descriptor of the socket to answer on."),
    supervisor: int = typer.Option(help="Process that this one ends with."),
) -> None:
    """Answer beside other processes."""
    from fastslow.serve.workers import answer_beside_others

    answer_beside_others(socket, supervisor=supervisor)
