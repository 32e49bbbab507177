"""A model with modules on fake tensors, which have shapes but no memory.

A pass runs the real code, so the memory it would keep can be counted before anything is loaded.
"""

import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

from fastslow.adapters.base import Precision, load_base, load_config, storage_dtype
from fastslow.adapters.modules import Modules


@dataclass
class Bytes:
    """What fake tensors would take, in bytes."""

    now: int = 0
    most: int = 0
    seen: Any = field(default_factory=weakref.WeakSet)

    def count(self, tensor: Tensor) -> None:
        """Count a tensor's memory while it lives, unless its storage is counted already."""
        storage = tensor.untyped_storage()
        if storage in self.seen:
            return
        self.seen.add(storage)
        self._add(storage.nbytes())
        weakref.finalize(storage, self._add, -storage.nbytes())

    def _add(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)


@contextmanager
def fake_modules(
    model: str,
    attach: Callable[[Any], Modules],
    *,
    precision: Precision,
    device: torch.device,
    trust_remote_code: bool = False,
) -> Iterator[tuple[Modules, Bytes]]:
    """Inside, new tensors are fake and their bytes are counted, including the model's.

    Args:
        model: its folder or hub id; only the configuration is read.
        attach: puts the modules on a base.
        precision: of the base.
        device: where the tensors would be.
        trust_remote_code: as for loading.
    """
    with _on_meta():
        config = load_config(model, trust_remote_code=trust_remote_code)
        base = AutoModelForCausalLM.from_config(
            config, dtype=storage_dtype(precision), trust_remote_code=trust_remote_code
        )
        modules = attach(base.requires_grad_(False).eval())
    bytes_ = Bytes()
    with FakeTensorMode(), _Counting(bytes_):
        _place(modules.model, device)
        yield Modules(modules.model, trainable=modules.trainable, start=modules.start), bytes_


def meta_modules(
    model: str, attach: Callable[[Any], Modules], *, trust_remote_code: bool = False
) -> Modules:
    """Modules on the base in a folder, on the device `meta`: with names and shapes, but without
    values. Raises ConfigError as `load_base` and `attach` do."""
    meta = torch.device("meta")
    base = load_base(model, trust_remote_code=trust_remote_code, device=meta)
    with _on_meta():
        return attach(base)


@contextmanager
def _on_meta() -> Iterator[None]:
    with torch.device("meta"), warnings.catch_warnings():
        # An adapter's weights are read and discarded.
        warnings.filterwarnings("ignore", message=".*no-op.*", category=UserWarning)
        yield


class _Counting(TorchDispatchMode):
    def __init__(self, bytes_: Bytes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bytes = bytes_

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor):
                self._bytes.count(leaf)
        return output


def _place(model: nn.Module, device: torch.device) -> None:
    """Replace each of the model's tensors by a fake one; shared tensors stay shared."""
    made: dict[Tensor, Tensor] = {}
    for module in model.modules():
        registries: Any = (module._parameters, module._buffers)
        for tensors in registries:
            for key, tensor in tensors.items():
                if tensor is None:
                    continue
                if tensor not in made:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
                    if isinstance(tensor, nn.Parameter):
                        fake = nn.Parameter(fake, tensor.requires_grad)
                    made[tensor] = fake
                tensors[key] = made[tensor]
