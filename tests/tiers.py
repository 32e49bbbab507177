"""Which parameters of a test `make test` runs."""

import pytest


def fast(chosen, values):
    """The values as parameters; those that are not chosen run in `make slow` alone."""
    assert all(value in values for value in chosen)
    return [
        value if value in chosen else pytest.param(*_arguments(value), marks=pytest.mark.slow)
        for value in values
    ]


def _arguments(value):
    return value if isinstance(value, tuple) else (value,)
