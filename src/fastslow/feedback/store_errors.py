"""What a database refuses, as one error in the user's terms, without statements or values."""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import Timeout
from sqlalchemy.exc import DBAPIError

from fastslow.errors import StateError

PATIENCE = 60
"""Seconds that a write waits for another process's."""


@contextmanager
def store_errors() -> Iterator[None]:
    """Inside, what a database refuses is a StateError."""
    try:
        yield
    except Timeout:
        raise StateError(
            f"another process has held the store for {PATIENCE} seconds; stop it and try again"
        ) from None
    except DBAPIError as error:
        text = str(error.orig).strip().splitlines()
        raise StateError(f"the store cannot be used: {text[0] if text else error.code}") from error
