"""Paths in a live folder of adapters, checkpoints and students."""

import re
from hashlib import sha256
from pathlib import Path

ADAPTERS = "adapters"
DOMAINS = "domains"
CONSOLIDATIONS = "consolidations"


def adapter_name(domain: str, update_id: int, digest: str) -> str:
    """The name of an adapter, unique to its weights."""
    return f"{slug(domain)}-u{update_id}-{digest[:12]}"


def adapter_folder(folder: Path, name: str) -> Path:
    """The folder of an adapter, which is never changed."""
    return folder / ADAPTERS / name


def checkpoints(folder: Path, domain: str, update_id: int) -> Path:
    """The folder of the checkpoint that an update ended with, to continue learning from."""
    return folder / DOMAINS / slug(domain) / f"u{update_id:06d}"


def teaching(folder: Path, consolidation_id: int) -> Path:
    """The folder of a student and its training state, until all of its updates are decided."""
    return folder / CONSOLIDATIONS / f"{consolidation_id:06d}"


def slug(domain: str) -> str:
    """A domain as part of a file name, unique to the domain."""
    plain = re.sub(r"[^a-z0-9]+", "-", domain.lower()).strip("-")[:40]
    if plain == domain:
        return plain
    return f"{plain}-{sha256(domain.encode()).hexdigest()[:8]}".lstrip("-")
