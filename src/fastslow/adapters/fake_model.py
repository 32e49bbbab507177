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
        """Count the memory of a tensor while it lives, unless it shares storage."""
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
    """Inside, new tensors are fake and their bytes are counted, the model's among them.

    Args:
        model: its folder or hub id; only the configuration is read.
        attach: puts the modules on the base that it is given.
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
    """Modules on the base that a folder holds, on the device `meta`: with names and shapes, but
    without numbers. Raises ConfigError as `load_base` and `attach` do."""
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
        found = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self._bytes.count(leaf)
        return found


def _place(model: nn.Module, device: torch.device) -> None:
    """Put a fake tensor in place of each of the model's, where two share one for both."""
    made: dict[Tensor, Tensor] = {}
    for module in model.modules():
        registries: Any = (module._parameters, module._buffers)
        for tensors in registries:
            for key, tensor in tensors.items():
                if tensor is None:
                    continue
                if tensor not in made:
                    found = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
                    if isinstance(tensor, nn.Parameter):
                        found = nn.Parameter(found, tensor.requires_grad)
                    made[tensor] = found
                tensors[key] = made[tensor]
