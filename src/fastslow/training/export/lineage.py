"""Which modules share an adapter: what was trained from one holds it, and so does a sum with it.

An adapter is known by the fingerprint of its weights, wherever its folder is now: those that a run
started from are in its inputs.json, earlier ones are found through the folders it names.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any

from fastslow.adapters import Entry
from fastslow.config import load_recipe
from fastslow.errors import FastslowError, StateError
from fastslow.foreign_files import ADAPTER_WEIGHTS, misfit, read_json
from fastslow.streams import file_fingerprint

Fingerprint = tuple[Any, ...]
"""Size and hash of an adapter's weights."""


def shared_adapters(entries: Sequence[Entry]) -> list[str]:
    """What some modules have in common, a clause for each two; a sum of them counts it twice."""
    own = [adapter_fingerprint(entry.folder) for entry in entries]
    held = [_ancestors(entry.config.parent) for entry in entries]
    found = []
    for first, second in combinations(range(len(entries)), 2):
        for one, other in ((first, second), (second, first)):
            if own[one] in held[other]:
                names = f"{entries[other].name} contains {entries[one].name}"
                found.append(f"{names}, from which it was made")
        if own[first] not in held[second] and own[second] not in held[first]:
            if held[first] & held[second]:
                names = f"{entries[first].name} and {entries[second].name}"
                found.append(f"{names} contain the same earlier adapter")
    return found


def adapter_fingerprint(folder: Path) -> Fingerprint:
    """That of an adapter in its folder."""
    return tuple(file_fingerprint(folder / ADAPTER_WEIGHTS)[1:])


def _ancestors(folder: Path) -> set[Fingerprint]:
    """The adapters that the module whose recipe is in a folder was made from, as far as known."""
    found: set[Fingerprint] = set()
    waiting, seen = [folder], {folder}
    while waiting:
        place = waiting.pop()
        found.update(_recorded(place))
        for adapter in _adapters_before(place):
            found.add(adapter_fingerprint(adapter))
            origin = _origin(adapter)
            if origin is not None and origin not in seen:
                seen.add(origin)
                waiting.append(origin)
    return found


def _recorded(folder: Path) -> Iterator[Fingerprint]:
    """From inputs.json, which knows them also where their folders are gone."""
    inputs = _read(folder / "inputs.json")
    for key in ("adapter in lora.start_from", "modules"):
        files = inputs.get(key)
        if not misfit(files, list[list[Any]]):
            yield from (tuple(file[1:]) for file in files or () if file[:1] == [ADAPTER_WEIGHTS])


def _adapters_before(folder: Path) -> Iterator[Path]:
    """Folders of adapters that a run, an entry of a bank or a run over domains is made from."""
    parents = _read(folder / "manifest.json").get("parents", [])
    places = [] if misfit(parents, list[str]) else [folder.parent / name for name in parents]
    with suppress(FastslowError):
        start = load_recipe(folder / "config.yaml").lora.start_from
        places += [Path(start)] if start is not None else []
    bank = sorted(path.parent for path in folder.glob("bank/*/manifest.json"))
    # Without weights a run over domains answers with its last module, or with one a prompt.
    weights = _read(folder / "summary.json").get("weights")
    if isinstance(weights, dict):
        places += [entry for entry in bank if entry.name in weights]
    else:
        places += bank[-1:]
    yield from (place for place in places if (place / ADAPTER_WEIGHTS).is_file())


def _origin(adapter: Path) -> Path | None:
    """The folder with the recipe that made an adapter."""
    if (adapter / "config.yaml").exists():
        return adapter
    run = adapter.parent.parent
    if adapter.parent.name != "adapters" or not (run / "config.yaml").exists():
        return None
    parts = _read(run / "summary.json").get("parts")
    return run / parts[-1] if parts and not misfit(parts, list[str]) else run


def _read(path: Path) -> dict[str, Any]:
    """A JSON file, empty where there is none that can be read: then less is known."""
    with suppress(StateError):
        found: dict[str, Any] = read_json(path, dict[str, Any])
        return found
    return {}
