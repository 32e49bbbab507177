"""Whether what a command needs beside the core is installed."""

from importlib import import_module


def check_installed(module: str, *, what: str, extra: str) -> None:
    """Raises ConfigError with what to install where a module of ours lacks one of its own."""
    from fastslow.errors import ConfigError

    try:
        import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{what} needs {error.name}, which is not installed: pip install 'fastslow[{extra}]'"
        ) from None
