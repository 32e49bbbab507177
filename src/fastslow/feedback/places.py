"""Where a live folder keeps what was learned."""

import re
from hashlib import sha256
from pathlib import Path

ADAPTERS = "adapters"
DOMAINS = "domains"
CONSOLIDATIONS = "consolidations"


def adapter_name(domain: str, update_id: int, digest: str) -> str:
    """The name of an adapter, which is for these weights and no others."""
    return f"{slug(domain)}-u{update_id}-{digest[:12]}"


def adapter_folder(folder: Path, name: str) -> Path:
    """Where an adapter is; it is never changed there."""
    return folder / ADAPTERS / name


def checkpoints(folder: Path, domain: str, update_id: int) -> Path:
    """Where what an update ended with is kept, to learn on."""
    return folder / DOMAINS / slug(domain) / f"u{update_id:06d}"


def teaching(folder: Path, consolidation_id: int) -> Path:
    """Where a student is, and how far it was taught, until all of its updates are decided."""
    return folder / CONSOLIDATIONS / f"{consolidation_id:06d}"


def slug(domain: str) -> str:
    """A domain as a part of a file's name: no two have the same."""
    plain = re.sub(r"[^a-z0-9]+", "-", domain.lower()).strip("-")[:40]
    if plain == domain:
        return plain
    return f"{plain}-{sha256(domain.encode()).hexdigest()[:8]}".lstrip("-")
