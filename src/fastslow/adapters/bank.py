"""The bank: the modules of past domains on disk, each with everything needed to reuse it.

bank/
  01-reviews/
    adapter_config.json, adapter_model.safetensors    an ordinary PEFT folder
    config.yaml       the recipe that made it
    memory.jsonl      its replay buffer, a uniform sample of its training pairs
    manifest.json     domain, position, parents, base, data, metrics, sha256 of the other files

An entry is written atomically and never changed.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastslow.adapters.factors import Factors
from fastslow.adapters.lora_folder import copy_adapter
from fastslow.atomic_io import OWN, file_hash, new_folder
from fastslow.errors import ConfigError, StateError
from fastslow.foreign_files import ADAPTER_WEIGHTS, check_no_links, read_json

FORMAT = 1
FILES = ("adapter_config.json", ADAPTER_WEIGHTS, "config.yaml", "memory.jsonl")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What manifest.json holds."""

    format: int
    domain: str
    position: int
    parents: list[str]
    base: Any
    data: Any
    metrics: dict[str, Any]
    sha256: dict[str, str]
    pairs_seen: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One module of the bank."""

    name: str
    folder: Path
    """A PEFT folder."""
    config: Path
    """The recipe that made it."""
    memory: Path
    """Its replay buffer of training pairs."""
    domain: str
    position: int
    """Position in the order of training, from 1."""
    parents: tuple[str, ...]
    """Names of the entries that its training started from; empty for a fresh start."""
    base: Any
    """Fingerprint of the base model's folder."""
    data: Any
    """Fingerprint of the pairs it learned from."""
    metrics: Mapping[str, Any]
    """Its held-out measurement on its own domain; empty without one."""
    pairs_seen: int | None = None
    """Pairs it learned from, counting each as often as it was seen; None if not known."""

    def factors(self) -> Factors:
        """Its update, as factors."""
        return Factors.read(self.folder)


class Bank:
    """A folder of entries in the order they were learned; it need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> list[Entry]:
        """Every entry, checked, in order.

        Raises StateError naming the file that is missing or changed, or the entries whose bases
        differ.
        """
        # Names with a leading dot are unfinished drafts.
        folders = sorted(path for path in self.folder.glob("[!.]*") if path.is_dir())
        if folders:
            check_no_links(self.folder)
        foreign = [path for path in folders if not (path / "manifest.json").exists()]
        if foreign:
            raise StateError(f"{foreign[0]} has no manifest.json, so it is not a bank entry")
        entries = sorted((read_entry(folder) for folder in folders), key=lambda e: e.position)
        check_one_base(entries)
        return entries

    def add(
        self,
        *,
        domain: str,
        adapter: Path,
        config: Path,
        memory: Path,
        parents: Sequence[str],
        base: Any,
        data: Any,
        metrics: Mapping[str, Any],
        pairs_seen: int | None = None,
    ) -> Entry:
        """Append a module to the bank.

        Raises StateError if its base differs from the other entries'.
        """
        others = self.entries()
        # After the last one, not the count: an entry may have been removed.
        position = others[-1].position + 1 if others else 1
        path = self.folder / f"{position:02d}-{folder_name(domain)}"
        with new_folder(path) as draft:
            copy_adapter(adapter, draft)
            shutil.copyfile(config, draft / "config.yaml")
            shutil.copyfile(memory, draft / "memory.jsonl")
            (draft / "memory.jsonl").chmod(OWN)
            hashes = {name: file_hash(draft / name) for name in FILES}
            manifest = Manifest(
                format=FORMAT,
                domain=domain,
                position=position,
                parents=list(parents),
                base=base,
                data=data,
                metrics=dict(metrics),
                sha256=hashes,
                pairs_seen=pairs_seen,
            )
            text = json.dumps(asdict(manifest), indent=1, ensure_ascii=False) + "\n"
            (draft / "manifest.json").write_text(text, encoding="utf-8")
            check_one_base([*others, _entry(path, manifest)])
        return read_entry(path)


def read_entry(folder: Path) -> Entry:
    """One entry, checked. Raises StateError naming a file that is missing or has changed."""
    path = folder / "manifest.json"
    version = read_json(path, dict[str, Any]).get("format")
    if version != FORMAT:
        raise StateError(f"{path} has format {version!r}; this version reads {FORMAT}")
    manifest: Manifest = read_json(path, Manifest)
    check_no_links(folder)
    for name in FILES:
        file = folder / name
        if not file.is_file():
            raise StateError(f"{file} is missing; restore it, or remove the entry {folder}")
        if file_hash(file) != manifest.sha256.get(name):
            raise StateError(
                f"{file} has changed since it was put in the bank; restore it, or remove the "
                f"entry {folder}"
            )
    return _entry(folder, manifest)


def check_one_base(entries: Sequence[Entry]) -> None:
    """Raise StateError naming two entries that were made for different bases."""
    for entry in entries[1:]:
        if entry.base != entries[0].base:
            raise StateError(
                f"{entry.folder} was trained on another base than {entries[0].folder}; modules can "
                "only be combined on the base they were trained on"
            )


def latest_per_domain(entries: Sequence[Entry]) -> list[Entry]:
    """The newest entry of each domain, in order; a domain that returned counts once.

    Raises ConfigError if there are no entries.
    """
    if not entries:
        raise ConfigError("the bank is empty; train a domain first")
    newest = {entry.domain: entry for entry in entries}
    return sorted(newest.values(), key=lambda entry: entry.position)


def _entry(folder: Path, manifest: Manifest) -> Entry:
    return Entry(
        name=folder.name,
        folder=folder,
        config=folder / "config.yaml",
        memory=folder / "memory.jsonl",
        domain=manifest.domain,
        position=manifest.position,
        parents=tuple(manifest.parents),
        base=manifest.base,
        data=manifest.data,
        metrics=manifest.metrics,
        pairs_seen=manifest.pairs_seen,
    )


def folder_name(name: str) -> str:
    """Folder name for a domain: letters, digits and dashes only, so that it stays in the bank."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "domain"
