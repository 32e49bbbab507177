"""Checks that what a command needs besides the core is installed."""

from importlib import import_module


def check_installed(module: str, *, what: str, extra: str) -> None:
    """Raise ConfigError with what to install if a module of fastslow lacks a dependency."""
    from fastslow.errors import ConfigError

    try:
        import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{what} needs {error.name}, which is not installed: pip install 'fastslow[{extra}]'"
        ) from None
