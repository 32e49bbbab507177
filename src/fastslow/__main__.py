"""`python -m fastslow` is the `fastslow` command."""

from fastslow.cli.main import run

run()
