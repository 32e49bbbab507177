"""Checks of an objective's settings, each with one clear error."""

from fastslow.errors import ConfigError, shown


def check_positive(name: str, value: float) -> None:
    """Raise ConfigError unless the value is a positive, finite number."""
    if not _is_number(value) or not 0 < value < float("inf"):
        raise ConfigError(f"objective.{name}: got {shown(value)}; must be a number above 0")


def check_number(name: str, value: float) -> None:
    """Raise ConfigError unless the value is a finite number."""
    if not _is_number(value) or not abs(value) < float("inf"):
        raise ConfigError(f"objective.{name}: got {shown(value)}; must be a number")


def check_not_negative(name: str, value: float) -> None:
    """Raise ConfigError unless the value is 0 or a positive, finite number."""
    if not _is_number(value) or not 0 <= value < float("inf"):
        raise ConfigError(f"objective.{name}: got {shown(value)}; must be a number, 0 or above")


def check_one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise ConfigError unless the value is one of those allowed."""
    if value not in list(allowed) or isinstance(value, bool) != isinstance(allowed[0], bool):
        names = ", ".join(map(str, allowed)).lower()
        raise ConfigError(f"objective.{name}: got {shown(value)}; allowed are {names}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError unless low <= value < high."""
    if not _is_number(value) or not low <= value < high:
        raise ConfigError(
            f"objective.{name}: got {shown(value)}; must be a number from {low} up to but below "
            f"{high}"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
