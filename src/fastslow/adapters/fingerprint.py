"""Which base an adapter belongs to: its weights and its place, kept with the adapter.

PEFT's configuration has a field for what helps to find the base again, `auto_mapping`, which it
leaves alone in adapters of a causal LM.
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
"""Attribute of a loaded base model."""


def absolute(name: str) -> str:
    """A folder's or file's name that holds in every working folder; a hub id stays as it is."""
    return str(Path(name).absolute()) if name and Path(name).exists() else name


def model_folder(model: str) -> Path | None:
    """Where the files of a model folder or a hub id lie on this machine; None if they do not."""
    if Path(model).is_dir():
        return Path(model)
    name, revision = at_revision(model)
    try:
        config = cached_file(name, "config.json", revision=revision, local_files_only=True)
    except (OSError, ValueError):
        return None
    return Path(config).parent if config else None


def base_weights(model: str) -> str | None:
    """A hash of a model's weights that does not depend on how they are split into files: of each
    tensor its name, type, shape, and three of its rows. None where they are not on this machine."""
    folder = model_folder(model)
    files = sorted(folder.glob("*.safetensors")) if folder else []
    if not files:
        return None
    tensors: dict[str, bytes] = {}
    for path in files:
        with safe_open(path, "pt") as file:
            for key in file.keys():
                tensors[key] = _sample(file.get_slice(key))
    found = sha256()
    for key in sorted(tensors):
        found.update(key.encode() + tensors[key])
    return found.hexdigest()


def _sample(tensor: Any) -> bytes:
    """What is hashed of a tensor in a file."""
    shape = tensor.get_shape()
    told = f"{tensor.get_dtype()} {shape}".encode()
    if not shape or 0 in shape:
        return told
    inner = [slice(0, 1)] * (len(shape) - 2)
    rows = (tensor[(slice(row, row + 1), *inner)] for row in (0, shape[0] // 2, shape[0] - 1))
    return told + b"".join(row.flatten().view(torch.uint8).numpy().tobytes() for row in rows)


def check_base(adapter: Path, mapping: Mapping[str, Any] | None, base: Any) -> None:
    """Raise ConfigError where an adapter was trained on other weights than those of the base.

    Args:
        adapter: its folder.
        mapping: `auto_mapping` of its configuration.
        base: the base model; one that is not known to come from a folder is taken as it is.
    """
    trained_on, own = (mapping or {}).get(FIELD), getattr(base, OF_BASE, None)
    if trained_on and own and trained_on != own:
        raise ConfigError(
            f"adapter {adapter} was trained on another base: the weights of "
            f"{base.name_or_path} are not those it was trained on; give the base that "
            "adapter_config.json names, as it was then"
        )
