"""LoRA modules as plain pairs of factors, and exact arithmetic on them.

The update of a layer is W + B A. A weighted sum of updates is again one such pair, by concatenating
the factors:

    sum_d w_d B_d A_d = [w_1 B_1, ..., w_K B_K] [A_1; ...; A_K]

so a combination is an ordinary adapter whose rank is the sum of ranks. (PEFT's `linear` adds the
factors instead and so multiplies every B with every A; `cat` is this sum.) The scaling lora_alpha/r
is folded into B on reading, so a written combination has lora_alpha = r.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fastslow.adapters.fingerprint import FIELD
from fastslow.adapters.lora_folder import check_lora_folder
from fastslow.adapters.whole_model import check_finite
from fastslow.atomic_io import make_empty
from fastslow.errors import ConfigError
from fastslow.foreign_files import ADAPTER_WEIGHTS, read_json

PREFIX = "base_model.model."
LORA_ALPHA = 8
"""PEFT's default, where a configuration sets none."""
SOME_LAYERS = ("layers_to_transform", "layers_pattern", "exclude_modules")
"""Settings with which target_modules names more layers than carry a module."""


@dataclass(frozen=True, slots=True)
class Factors:
    """A LoRA module: for each layer A [r, in] and B [out, r], float32, scaling included in B."""

    layers: Mapping[str, tuple[Tensor, Tensor]]
    """Keyed by the layer's name in the causal LM."""
    targets: tuple[str, ...]
    """Layer names as in the adapter's configuration; empty if summed modules differ in them."""
    base: str | None = None
    """base_model_name_or_path of the configuration."""
    base_weights: str | None = None
    """The hash of that base's weights, if the adapter stores it."""

    @property
    def rank(self) -> int:
        """The largest rank of any layer."""
        return max(a.shape[0] for a, _ in self.layers.values())

    def update(self, layer: str) -> Tensor:
        """The dense update B A of one layer, [out, in]."""
        a, b = self.layers[layer]
        return b @ a

    @classmethod
    def read(cls, folder: Path) -> "Factors":
        """The module in a PEFT folder. Raises ConfigError unless it is plain LoRA on layers."""
        check_lora_folder(folder, summed=True)
        config = read_json(folder / "adapter_config.json", dict[str, Any], error=ConfigError)
        try:
            tensors = load_file(folder / ADAPTER_WEIGHTS)
        except SafetensorError as error:
            raise ConfigError(f"{folder}: adapter_model.safetensors is damaged: {error}") from None
        check_finite(f"adapter {folder}", tensors.items())
        layers = {}
        for stem in _stems(tensors, folder):
            layer = stem.removeprefix(PREFIX)
            a, b = _pair(tensors, stem, folder)
            layers[layer] = (a, b * _scaling(config, layer, a.shape[0]))
        targets = config.get("target_modules")
        partial = any(config.get(key) not in (None, []) for key in SOME_LAYERS)
        target_names = tuple(sorted(targets)) if isinstance(targets, list) and not partial else ()
        weights = (config.get("auto_mapping") or {}).get(FIELD)
        return cls(layers, target_names, config.get("base_model_name_or_path"), weights)

    def write(self, folder: Path) -> None:
        """Write an ordinary PEFT folder, created if needed; it must be empty."""
        make_empty(folder)
        tensors = {}
        for layer, (a, b) in self.layers.items():
            tensors[f"{PREFIX}{layer}.lora_A.weight"] = a.contiguous()
            tensors[f"{PREFIX}{layer}.lora_B.weight"] = b.contiguous()
        save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        text = json.dumps(self._config(), indent=2) + "\n"
        (folder / "adapter_config.json").write_text(text, encoding="utf-8")

    def _config(self) -> dict[str, Any]:
        # Layers whose rank is not the largest are listed, which keeps their scaling at 1.
        other = {
            layer: a.shape[0] for layer, (a, _) in self.layers.items() if a.shape[0] != self.rank
        }
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base,
            "auto_mapping": {FIELD: self.base_weights} if self.base_weights else None,
            "r": self.rank,
            "lora_alpha": self.rank,
            "lora_dropout": 0.0,
            "bias": "none",
            "inference_mode": True,
            "rank_pattern": other,
            "alpha_pattern": other,
            "target_modules": list(self.targets) or sorted(self.layers),
        }


def _stems(tensors: Mapping[str, Tensor], folder: Path) -> list[str]:
    """Names of the layers that have a factor, as in the file."""
    stems = set()
    for key in tensors:
        stem, _, rest = key.rpartition(".lora_")
        if rest not in ("A.weight", "B.weight"):
            raise ConfigError(f"{folder}: {key} is not a LoRA factor of a layer")
        stems.add(stem)
    if not stems:
        raise ConfigError(f"{folder}: adapter_model.safetensors holds no layer's update")
    return sorted(stems)


def _pair(tensors: Mapping[str, Tensor], stem: str, folder: Path) -> tuple[Tensor, Tensor]:
    a, b = (tensors.get(f"{stem}.lora_{factor}.weight") for factor in "AB")
    if a is None or b is None:
        raise ConfigError(f"{folder}: {stem} has only one of lora_A and lora_B")
    if not a.dim() == b.dim() == 2 or a.shape[0] != b.shape[1]:
        raise ConfigError(
            f"{folder}: the factors of {stem} do not match: lora_A is {tuple(a.shape)}, "
            f"lora_B is {tuple(b.shape)}"
        )
    return a.float(), b.float()


def _scaling(config: Mapping[str, Any], layer: str, rank: int) -> float:
    """PEFT's scaling of a layer's B A."""
    patterns = config.get("alpha_pattern") or {}
    # As in PEFT: regular expressions on the end of a name; the first match counts.
    fits = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", layer))
    alpha = next(fits, config.get("lora_alpha", LORA_ALPHA))
    return float(alpha / math.sqrt(rank)) if config.get("use_rslora") else float(alpha / rank)


def combine(modules: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """The module whose update is the weighted sum of the modules' updates, exactly.

    Its rank is the sum of their ranks; a layer that a module lacks gets nothing from it.
    Raises ConfigError without modules, or if a layer's shapes disagree.
    """
    if not modules or len(modules) != len(weights):
        raise ConfigError(f"combine: got {len(modules)} modules and {len(weights)} weights")
    layers: dict[str, tuple[Tensor, Tensor]] = {}
    for layer in sorted({layer for module in modules for layer in module.layers}):
        parts = [
            (module.layers[layer], weight)
            for module, weight in zip(modules, weights, strict=True)
            if layer in module.layers
        ]
        shapes = {(b.shape[0], a.shape[1]) for (a, b), _ in parts}
        if len(shapes) > 1:
            raise ConfigError(
                f"combine: the modules disagree on the shape of {layer} ({sorted(shapes)}); all "
                "must be made for the same base"
            )
        layers[layer] = (
            torch.cat([a for (a, _), _ in parts]),
            torch.cat([weight * b for (_, b), weight in parts], dim=1),
        )
    bases = {module.base_weights for module in modules} - {None}
    if len(bases) > 1:
        raise ConfigError(
            "combine: the modules were trained on bases with different weights; only updates of "
            "the same base add up"
        )
    same = {module.targets for module in modules}
    targets = same.pop() if len(same) == 1 else ()
    return Factors(layers, targets, modules[0].base, bases.pop() if bases else None)


def without_repeats(module: Factors) -> Factors:
    """The same update with each direction of A once: the B of bitwise equal ones are added up.

    In a sum of policies trained from each other, most directions occur several times.
    """
    return replace(module, layers={key: _once(*pair) for key, pair in module.layers.items()})


def _once(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    places: dict[bytes, int] = {}
    rows: list[Tensor] = []
    columns: list[Tensor] = []
    bits = a.cpu().contiguous().numpy()
    for row, column, key in zip(a, b.T, bits, strict=True):
        place = places.setdefault(key.tobytes(), len(rows))
        if place == len(rows):
            rows.append(row)
            columns.append(column)
        else:
            columns[place] = columns[place] + column
    return torch.stack(rows), torch.stack(columns, dim=1)


def recompress(module: Factors, rank: int) -> tuple[Factors, float]:
    """The nearest module of at most `rank` in every layer, and the share of the update lost.

    Nearest in the Frobenius norm: a truncated SVD, computed without the dense update.
    The share is the Frobenius norm of the lost part over that of the whole. Raises ConfigError
    for a rank below 1.
    """
    if rank < 1:
        raise ConfigError(f"recompress: got rank {rank}; must be 1 or more")
    layers, lost, whole = {}, 0.0, 0.0
    for layer, (a, b) in module.layers.items():
        q_b, r_b = torch.linalg.qr(b.cpu().double())
        q_a, r_a = torch.linalg.qr(a.cpu().double().T)
        u, s, vh = torch.linalg.svd(r_b @ r_a.T)
        kept = min(rank, len(s))
        root = s[:kept].sqrt()
        new_b = q_b @ u[:, :kept] * root
        new_a = root[:, None] * (vh[:kept] @ q_a.T)
        layers[layer] = (new_a.to(a.dtype), new_b.to(b.dtype))
        lost += float(s[kept:].square().sum())
        whole += float(s.square().sum())
    compressed = replace(module, layers=layers)
    return compressed, math.sqrt(lost / whole) if whole else 0.0
