"""Fingerprints of base weights, stored with adapters to tell which base they belong to.

PEFT's configuration has a field for finding the base again, `auto_mapping`, which PEFT does not
touch in adapters of a causal LM.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers.utils.hub import cached_file

from fastslow.adapters.revision import at_revision
from fastslow.errors import ConfigError

FIELD = "base_weights"
"""The key within PEFT's `auto_mapping`."""
OF_BASE = "_fastslow_base_weights"
"""Attribute of a loaded base model that holds the hash."""


def absolute(name: str) -> str:
    """The absolute path of a folder or file; a hub id stays as it is."""
    return str(Path(name).absolute()) if name and Path(name).exists() else name


def model_folder(model: str) -> Path | None:
    """Folder of a model or hub id on this machine; None if it is not there."""
    if Path(model).is_dir():
        return Path(model)
    name, revision = at_revision(model)
    try:
        config = cached_file(name, "config.json", revision=revision, local_files_only=True)
    except (OSError, ValueError):
        return None
    return Path(config).parent if config else None


def base_weights(model: str) -> str | None:
    """A hash of a model's weights that does not depend on how they are split into files: each
    tensor's name, type, shape, and three of its rows. None if they are not on this machine."""
    folder = model_folder(model)
    files = sorted(folder.glob("*.safetensors")) if folder else []
    if not files:
        return None
    tensors: dict[str, bytes] = {}
    for path in files:
        with safe_open(path, "pt") as file:
            for key in file.keys():
                tensors[key] = _sample(file.get_slice(key))
    digest = sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key])
    return digest.hexdigest()


def _sample(tensor: Any) -> bytes:
    """The bytes of a tensor in a file that are hashed."""
    shape = tensor.get_shape()
    header = f"{tensor.get_dtype()} {shape}".encode()
    if not shape or 0 in shape:
        return header
    inner = [slice(0, 1)] * (len(shape) - 2)
    rows = (tensor[(slice(row, row + 1), *inner)] for row in (0, shape[0] // 2, shape[0] - 1))
    return header + b"".join(row.flatten().view(torch.uint8).numpy().tobytes() for row in rows)


def check_base(adapter: Path, mapping: Mapping[str, Any] | None, base: Any) -> None:
    """Raise ConfigError if an adapter was trained on weights other than the base's.

    Args:
        adapter: its folder.
        mapping: `auto_mapping` of its configuration.
        base: the base model; not checked if it is not known to come from a folder.
    """
    trained_on, weights = (mapping or {}).get(FIELD), getattr(base, OF_BASE, None)
    if trained_on and weights and trained_on != weights:
        raise ConfigError(
            f"adapter {adapter} was trained on another base: the weights of "
            f"{base.name_or_path} are not those it was trained on; give the base that "
            "adapter_config.json names, as it was then"
        )
