"""Finds modules that share an adapter: one trained from it contains it, and so does a sum with it.

An adapter is identified by the fingerprint of its weights, wherever its folder is now. Those that a
run started from are in its inputs.json; earlier ones are found through the folders it names.
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
    """Adapters that the modules share, one clause per two modules; a sum counts these twice."""
    prints = [adapter_fingerprint(entry.folder) for entry in entries]
    ancestors = [_ancestors(entry.config.parent) for entry in entries]
    clauses = []
    for first, second in combinations(range(len(entries)), 2):
        for part, whole in ((first, second), (second, first)):
            if prints[part] in ancestors[whole]:
                names = f"{entries[whole].name} contains {entries[part].name}"
                clauses.append(f"{names}, from which it was made")
        if prints[first] not in ancestors[second] and prints[second] not in ancestors[first]:
            if ancestors[first] & ancestors[second]:
                names = f"{entries[first].name} and {entries[second].name}"
                clauses.append(f"{names} contain the same earlier adapter")
    return clauses


def adapter_fingerprint(folder: Path) -> Fingerprint:
    """The fingerprint of the adapter in a folder."""
    return tuple(file_fingerprint(folder / ADAPTER_WEIGHTS)[1:])


def _ancestors(folder: Path) -> set[Fingerprint]:
    """The adapters that the module with its recipe in `folder` was made from, as far as known."""
    prints: set[Fingerprint] = set()
    pending, seen = [folder], {folder}
    while pending:
        place = pending.pop()
        prints.update(_recorded(place))
        for adapter in _adapters_before(place):
            prints.add(adapter_fingerprint(adapter))
            origin = _origin(adapter)
            if origin is not None and origin not in seen:
                seen.add(origin)
                pending.append(origin)
    return prints


def _recorded(folder: Path) -> Iterator[Fingerprint]:
    """Adapters recorded in inputs.json, which has them even if their folders are gone."""
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
    # Without weights a run over domains answers with its last module, or one per prompt.
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
    """A JSON file's content; empty if it cannot be read, in which case less is known."""
    with suppress(StateError):
        content: dict[str, Any] = read_json(path, dict[str, Any])
        return content
    return {}
