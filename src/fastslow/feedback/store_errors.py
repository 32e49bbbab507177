"""Turns database errors into one error in the user's terms, without statements or values."""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import Timeout
from sqlalchemy.exc import DBAPIError

from fastslow.errors import StateError

PATIENCE = 60
"""Seconds that a write waits for another process's write."""


@contextmanager
def store_errors() -> Iterator[None]:
    """Raises database errors inside the block as StateError."""
    try:
        yield
    except Timeout:
        raise StateError(
            f"another process has held the store for {PATIENCE} seconds; stop it and try again"
        ) from None
    except DBAPIError as error:
        raise StateError(f"the store cannot be used: {first_line(error)}") from error


def first_line(error: DBAPIError) -> str:
    """The first line of a database's message; later lines hold values."""
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else str(error.code)
