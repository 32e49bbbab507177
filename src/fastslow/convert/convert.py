"""A file of another library to a recipe and a word on every key of it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.config import DATA_FILES, dump_yaml, library_of, parse_yaml, read_file
from fastslow.convert.foreign import Foreign
from fastslow.convert.llama_factory import convert_llama_factory
from fastslow.convert.trl import convert_trl
from fastslow.errors import ConfigError, shown

KINDS = ("trl", "llama-factory")
OWN = {"chase": "chasing of fast and slow adapters", "budget": "limit on how far a policy moves"}
"""Sections that the other libraries have nothing like, and that are on by default."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A recipe and what became of every key of the file that it was made from."""

    kind: str
    recipe: dict[str, Any]
    translated: Mapping[str, str]
    """Where each key went, or what of it is to be known."""
    idle: Mapping[str, str]
    """Keys that are not needed here, and why."""
    lost: Mapping[str, str]
    """Keys that are not carried over, and what is lost."""

    def text(self) -> str:
        """The recipe as YAML, below comments on every key."""
        return "".join(f"# {line}\n" for line in self._comments()) + dump_yaml(self.recipe)

    def _comments(self) -> Iterator[str]:
        yield f"Converted from {self.kind}."
        for title, keys in (
            ("Translated", self.translated),
            ("Not needed", self.idle),
            ("Not carried over", self.lost),
        ):
            if keys:
                yield f"{title}:"
            for key, what in keys.items():
                yield f"  {key}: {what}"
        for key, what in OWN.items():
            if self.recipe.get(key, "") is None:
                yield f"{key}: null as {self.kind} has no {what}; without the line it is on."


def convert(
    path: str | Path,
    *,
    kind: str | None = None,
    settings: Sequence[str] = (),
    dropped: Collection[str] = (),
    processes: int = 1,
) -> Converted:
    """The recipe of a YAML of `trl dpo` or LLaMA-Factory, with the settings that it starts from.

    Args:
        path: the file.
        kind: one of KINDS; told from the keys if None.
        settings: `section.key=value` of the recipe, which go before and settle what cannot be
            translated.
        dropped: keys to leave out though they change what is trained.
        processes: that trained together, by which the batch is larger.

    Raises ConfigError for a file that is neither, a key that neither library has, and for every key
    that changes what is trained and cannot be translated.
    """
    path = Path(path)
    if path.suffix in DATA_FILES:
        raise ConfigError(f"{path}: is a file of data; give a YAML of trl dpo or LLaMA-Factory")
    try:
        values = parse_yaml(read_file(path, what=str(path)), what=str(path))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; give a YAML file") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path} must hold keys and values")
    found = kind or library_of(values)
    if found not in KINDS:
        raise ConfigError(f"--from: got {shown(found)}; allowed are {', '.join(KINDS)}")
    if not values.get("model_name_or_path"):
        raise ConfigError(f"{path}: model_name_or_path is missing, so this is no file of {found}")
    own = dict(_own(setting) for setting in settings)
    foreign = Foreign(values, set(own), dropped)
    try:
        if found == "trl":
            unknown = convert_trl(foreign, processes=processes)
        else:
            unknown = convert_llama_factory(foreign, processes=processes, folder=path.parent)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{path}: a value is of another kind than {found} takes: {error}"
        ) from None
    _check(foreign, unknown, found)
    for key, value in own.items():
        foreign.put(key, value)
    return Converted(found, foreign.recipe, foreign.translated, foreign.idle, foreign.lost)


def _own(setting: str) -> tuple[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ConfigError(f"{shown(setting)}: write it as section.key=value")
    return key, parse_yaml(text, what=key)


def _check(foreign: Foreign, unknown: Collection[str], kind: str) -> None:
    faults = [f"{key}: {why}" for key, why in foreign.refused.items()]
    for key in unknown:
        if key in foreign.dropped:
            foreign.lost[key] = f"{kind} has no such key (dropped)"
        else:
            faults.append(f"{key}: {kind} has no such key; leave it out with --drop {key}")
    if absent := set(foreign.dropped) - foreign.values.keys() - foreign.lost.keys():
        faults.append(f"--drop: {', '.join(sorted(absent))} is not in the file and not refused")
    if faults:
        raise ConfigError(*faults)
