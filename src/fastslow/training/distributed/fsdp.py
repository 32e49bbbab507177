"""Shards the base over the processes (FSDP2).

Each process keeps a shard of every layer and gathers the rest when the layer is used. Modules,
embeddings and output layer are whole in every process, so training, saving and scoring code does
not change. Only the number of passes must be the same everywhere: see `ProcessGroup.pad_passes`.
"""

import os
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
import torch.distributed
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from fastslow.config import Recipe
from fastslow.scoring import layers_of
from fastslow.training.distributed.processes import ProcessGroup


def sharding_faults(recipe: Recipe, processes: ProcessGroup) -> Iterator[str]:
    """Unsupported settings of the launcher, and settings of the recipe that sharding rules out."""
    if not processes.sharded:
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":  # Accelerate's default is 1.
        yield "fsdp_version: only 2 is supported; launch with --fsdp_version 2"
        return
    plugin = FullyShardedDataParallelPlugin()
    if isinstance(plugin.cpu_offload, CPUOffloadPolicy):
        yield "fsdp_offload_params: is not supported; load the base in bfloat16 to save memory"
    if plugin.activation_checkpointing:
        yield (
            "fsdp_activation_checkpointing: is ignored; set train.gradient_checkpointing in the "
            "recipe instead"
        )
    if recipe.train.compile:
        yield ("train.compile: cannot be combined with a sharded base (FSDP); set it to false")
    if recipe.load_in_4bit:
        yield (
            "load_in_4bit: cannot be combined with a sharded base (FSDP); set it to false, or "
            "launch without --use_fsdp"
        )


def shard_layers(base: Any, device: torch.device, processes: ProcessGroup) -> Any:
    """Move a frozen base from CPU memory to the device, with its layers sharded.

    No more than one layer is whole on the device at a time. The weights are the first process's:
    transformers lets only one on each machine read them (`fsdp_cpu_ram_efficient_loading`).
    """
    plugin = FullyShardedDataParallelPlugin()
    settings: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (processes.size,)),
        "reshard_after_forward": plugin.reshard_after_forward,
    }
    for layer in layers_of(base):
        _take_from_first(layer.to(device))
        fully_shard(layer, **settings)
    # The backbone is called first in a pass; as it knows the layers, it prefetches the next one.
    backbone = getattr(base, base.base_model_prefix)
    whole = {p for p in backbone.parameters() if not isinstance(p, DTensor)}
    fully_shard(backbone, ignored_params=whole, **settings)
    return _take_from_first(base.to(device))


def _take_from_first(part: nn.Module) -> nn.Module:
    for tensor in chain(part.parameters(), part.buffers()):
        if not isinstance(tensor, DTensor):
            torch.distributed.broadcast(tensor.data, 0)
    return part
