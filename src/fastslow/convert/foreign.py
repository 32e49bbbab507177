"""Another library's settings, read key by key, with what became of each."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

OFF: tuple[Any, ...] = (None, False, 0, "", "none", [], {})
"""Values that switch a key off, whatever it is."""


@dataclass(slots=True)
class Foreign:
    """Settings on their way into a recipe.

    Each key ends in one of four places: `translated`, `idle` (not needed here, with the reason),
    `lost` (not carried over, with what is lost) or `refused` (it changes what is trained).
    """

    values: Mapping[str, Any]
    given: Collection[str] = ()
    """Keys of the recipe that the user gives, which settle what cannot be translated."""
    dropped: Collection[str] = ()
    """Keys that the user wants left out though they change what is trained."""
    recipe: dict[str, Any] = field(default_factory=dict)
    translated: dict[str, str] = field(default_factory=dict)
    """Where a key went; of one that is not in the file, its default that differs from ours."""
    idle: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def take(self, key: str, default: Any = None, *, to: str = "", null: Any = None) -> Any:
        """The value of a key, which is translated by that, or its default.

        Args:
            key: the key.
            default: of the other library.
            to: where it goes, if that is one place.
            null: what a null means there, if not the default.
        """
        if key not in self.values:
            return default
        self.translated[key] = to
        value = self.values[key]
        if value is not None:
            return value
        if null is None and default not in OFF:
            self.say(key, f"{to}; null is read as the default, {default}")
        return default if null is None else null

    def put(self, key: str, value: Any) -> None:
        """Set a dotted key of the recipe."""
        *sections, last = key.split(".")
        place = self.recipe
        for section in sections:
            if not isinstance(place.get(section), dict):
                place[section] = {}
            place = place[section]
        place[last] = value

    def say(self, key: str, what: str) -> None:
        """What is to be known of a key that is translated, or of its default."""
        self.translated[key] = what

    def pass_over(self, key: str, why: str) -> None:
        """A key that is not needed here."""
        if key in self.values:
            self.translated.pop(key, None)
            self.idle[key] = why

    def lose(self, key: str, what: str) -> None:
        """A key that is not carried over, which does not change what is trained."""
        if key in self.values:
            self.translated.pop(key, None)
            self.lost[key] = what

    def refuse(self, key: str, why: str, *, instead: str = "") -> None:
        """A key, given or by default, that changes what is trained and cannot be translated.

        Args:
            key: the key.
            why: what it does there that is not done here.
            instead: the key of the recipe by which the user can say what to do.
        """
        self.translated.pop(key, None)
        if key in self.dropped:
            self.lost[key] = f"{why} (dropped)"
        elif instead and instead in self.given:
            self.idle[key] = f"{instead} is given"
        else:
            how = f"give {instead}=..., or " if instead else ""
            self.refused[key] = f"{why}; {how}leave it out with --drop {key}"

    def settle(
        self,
        *,
        idle: Mapping[str, str],
        lost: Mapping[str, str],
        off: Mapping[str, tuple[Any, str]],
    ) -> list[str]:
        """Put the keys that are left where a table says; those that no table knows.

        Args:
            idle: not needed, with the reason. A name that ends in `*` is a beginning.
            lost: not carried over.
            off: the value at which a key does nothing, and what it does at others.
        """
        unknown = []
        for key, value in self.values.items():
            if key in {**self.translated, **self.idle, **self.lost, **self.refused}:
                continue
            if key in off:
                neutral, does = off[key]
                if value is None or value == neutral or (not neutral and value in OFF):
                    self.idle[key] = "is off"
                else:
                    self.refuse(key, does)
            elif why := _named(key, idle):
                self.idle[key] = why
            elif what := _named(key, lost):
                self.lost[key] = what
            else:
                unknown.append(key)
        return unknown


def _named(key: str, table: Mapping[str, str]) -> str:
    exact = table.get(key)
    if exact is not None:
        return exact
    return next(
        (said for name, said in table.items() if name.endswith("*") and key.startswith(name[:-1])),
        "",
    )


def by_reason(reasons: Mapping[str, str]) -> dict[str, str]:
    """A reason for each key, of texts of keys by their reason.

    >>> by_reason({"logs are complete": "logging_steps logging_strategy"})
    {'logging_steps': 'logs are complete', 'logging_strategy': 'logs are complete'}
    """
    return {key: reason for reason, keys in reasons.items() for key in keys.split()}
