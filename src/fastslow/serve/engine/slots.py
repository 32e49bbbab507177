"""Adapters in places made beforehand: putting one there is a copy, not a change of layers. A place
that is lacking is made, once."""

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
        count: slots that are made at once; two domains with two adapters each need more.
        rank: the largest rank that an adapter may have.
    """

    def __init__(self, base: Any, *, count: int, rank: int) -> None:
        names = tuple(f"slot{number}" for number in range(count))
        # The scaling is part of B in what is read, so that of a slot is 1.
        self.modules = Modules.attach(base, (names[0],), frozen=names[1:], rank=rank, alpha=rank)
        self._never_learn()
        self._rank, self._free = rank, list(names)
        self._taken: dict[str, str] = {}
        self.hashes: dict[str, str] = {}
        """Of the adapters that are offered, by name."""

    def slot_of(self, name: str) -> str:
        """The slot of an adapter, which `modules.using` takes."""
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
            raise ConfigError(f"{folder} changes {missing[0]}, which the model has not")
        return factors

    def put(self, name: str, factors: Factors, digest: str) -> None:
        """Have an adapter, known by a hash, answer by a name that nothing has yet."""
        if name in self._taken:
            raise ConfigError(f"there is an adapter {name!r} already; names are for good")
        if not self._free:
            self._free.append(f"slot{len(self.modules.names)}")
            self.modules.add_fresh(self._free[0])
            self._never_learn()
        slot = self._free.pop(0)
        for layer, (a, b) in self._layers(slot).items():
            a.zero_()
            b.zero_()
            if layer in factors.layers:
                own_a, own_b = factors.layers[layer]
                rank = own_a.shape[0]
                a[:rank].copy_(own_a)
                b[:, :rank].copy_(own_b)
        self._taken[name] = slot
        self.hashes = {**self.hashes, name: digest}

    def retire(self, name: str) -> None:
        """Offer an adapter no more; it keeps its slot."""
        self.slot_of(name)
        self.hashes = {other: digest for other, digest in self.hashes.items() if other != name}

    def remove(self, name: str) -> None:
        """Take an adapter that was retired out of its slot."""
        self._free.append(self._taken.pop(name))

    def _never_learn(self) -> None:
        for name in self.modules.names:
            for parameter in self.modules.parameters(name).values():
                parameter.requires_grad_(False)

    def _layers(self, slot: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """The factors A and B of a slot, by the layer's name in the causal LM."""
        found: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in self.modules.tensors(slot).items():
            layer, _, factor = key.removeprefix("base_model.model.").partition(".lora_")
            found.setdefault(layer, {})[factor[0]] = tensor
        return {layer: (both["A"], both["B"]) for layer, both in found.items()}
