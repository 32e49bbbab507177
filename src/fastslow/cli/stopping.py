"""Stopping a command of several trainings: said at once, with the exit code of a stopped run."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from fastslow.cli.console import tell
from fastslow.cli.train import STOPPED


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside the block, a first signal stops the command, which the same command resumes.

    A training under way finishes its step and writes a checkpoint; anything else ends at once.
    """
    from fastslow.bench.suite import StoppedError
    from fastslow.cli.run_text import acknowledged
    from fastslow.training.loop.signals import StopSignals, StopToken

    token = StopToken()
    signals = StopSignals(token, lambda name: tell(acknowledged(name)), at_once=True)
    try:
        with signals:
            yield
    except StoppedError as stopped:
        tell(f"{stopped}; rerun the command to resume")
        raise typer.Exit(STOPPED) from None
    except KeyboardInterrupt:
        if signals.aborted or not token.received:
            raise
        tell("stopped; rerun the command to resume")
        raise typer.Exit(STOPPED) from None
