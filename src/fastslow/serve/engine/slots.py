"""Adapters in slots made in advance: loading one is a copy, not a change of layers.

If no slot is free, another is made."""

from pathlib import Path
from typing import Any

import torch

from fastslow.adapters import Factors, Modules
from fastslow.errors import ConfigError
from fastslow.serve.engine.requests import UnknownModel


class Slots:
    """Named adapters on one base.

    Args:
        base: the causal LM.
        count: slots made at the start; two domains with two adapters each need more.
        rank: the largest rank that an adapter may have.
    """

    def __init__(self, base: Any, *, count: int, rank: int) -> None:
        names = tuple(f"slot{number}" for number in range(count))
        # Adapters are read with their scaling folded into B, so that of a slot is 1.
        self.modules = Modules.attach(base, (names[0],), frozen=names[1:], rank=rank, alpha=rank)
        self._never_learn()
        self._rank, self._free = rank, list(names)
        self._taken: dict[str, str] = {}
        self.hashes: dict[str, str] = {}
        """Hashes of the offered adapters' weights, by name."""

    def slot_of(self, name: str) -> str:
        """The slot of an adapter, for `modules.using`."""
        if name not in self._taken:
            raise UnknownModel(f"there is no model {name!r}")
        return self._taken[name]

    def read(self, folder: Path) -> Factors:
        """The adapter in a PEFT folder. Raises ConfigError for one that no slot can hold."""
        factors = Factors.read(folder)
        if factors.rank > self._rank:
            raise ConfigError(
                f"{folder} has rank {factors.rank}, the engine holds adapters up to rank "
                f"{self._rank}; export it with a smaller one"
            )
        missing = sorted(set(factors.layers) - set(self._layers(self.modules.names[0])))
        if missing:
            raise ConfigError(f"{folder} changes {missing[0]}, which the model does not have")
        return factors

    def put(self, name: str, factors: Factors, digest: str) -> None:
        """Copy an adapter into a slot, under a new name; `digest` is the hash of its weights."""
        if name in self._taken:
            raise ConfigError(f"there is an adapter {name!r} already; names cannot be reused")
        if not self._free:
            self._free.append(f"slot{len(self.modules.names)}")
            self.modules.add_fresh(self._free[0])
            self._never_learn()
        slot = self._free.pop(0)
        for layer, (a, b) in self._layers(slot).items():
            a.zero_()
            b.zero_()
            if layer in factors.layers:
                adapter_a, adapter_b = factors.layers[layer]
                rank = adapter_a.shape[0]
                a[:rank].copy_(adapter_a)
                b[:, :rank].copy_(adapter_b)
        self._taken[name] = slot
        self.hashes = {**self.hashes, name: digest}

    def retire(self, name: str) -> None:
        """Stop offering an adapter; it keeps its slot."""
        self.slot_of(name)
        self.hashes = {other: digest for other, digest in self.hashes.items() if other != name}

    def remove(self, name: str) -> None:
        """Free the slot of a retired adapter."""
        self._free.append(self._taken.pop(name))

    def _never_learn(self) -> None:
        for name in self.modules.names:
            for parameter in self.modules.parameters(name).values():
                parameter.requires_grad_(False)

    def _layers(self, slot: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """The factors A and B of a slot, by the layer's name in the causal LM."""
        factors: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in self.modules.tensors(slot).items():
            layer, _, factor = key.removeprefix("base_model.model.").partition(".lora_")
            factors.setdefault(layer, {})[factor[0]] = tensor
        return {layer: (pair["A"], pair["B"]) for layer, pair in factors.items()}
