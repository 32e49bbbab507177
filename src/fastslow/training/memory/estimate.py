"""Estimates the memory of a run before its model is loaded, and checks whether it is free.

The passes of a step are run on fake tensors, see `adapters.fake_model`; gradients and optimizer
states follow from the modules' sizes.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastslow.adapters import Modules, fake_modules
from fastslow.config import Recipe
from fastslow.errors import ConfigError, EncodingError, FastslowError
from fastslow.objectives import ActorCritic, Objective
from fastslow.scoring import Encoder, Layout, Tree, layers_of
from fastslow.training.data.batch_reader import BatchReader
from fastslow.training.data.dataset import (
    may_be_empty,
    prompt_stream,
    rereadable,
    train_stream,
)
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.memory.device_memory import free_memory
from fastslow.training.policies.loading import make_modules
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.precision import in_bfloat16

LOOKED_AT = 16
"""Micro-batches looked at; the longest one is used."""
SMALL = 64 << 20
"""Models with smaller files, in bytes, are not checked."""
SCATTERED = 1.4
"""Memory that glibc holds relative to the size of the activations, measured."""
SCATTERED_ON_GPU = 1.1
"""The same for torch's CUDA allocator."""
SURE = 0.8
"""Share of the estimate that a run is sure to need."""
KEPT = {"adamw": 2, "rmsprop": 1, "sgd": 0}
"""Optimizer state tensors per parameter tensor."""
NF4 = 0.53
"""Bytes per weight in 4 bits, including scales."""
GB = 1e9


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Memory of a run on top of the process itself, in bytes."""

    base: int
    """The frozen model."""
    modules: int
    """Weights of the modules, their gradients and what the optimisers keep."""
    activations: int
    """Activations of the longest micro-batch, under every module that learns."""

    @property
    def total(self) -> int:
        """The sum of the parts."""
        return self.base + self.modules + self.activations

    def gigabytes(self) -> dict[str, float]:
        """The total and its parts, by name."""
        parts = {name: getattr(self, name) for name in ("total", *self.__slots__)}
        return {name: round(size / GB, 2) for name, size in parts.items()}

    def __str__(self) -> str:
        parts = (f"{name} {getattr(self, name) / GB:.1f}" for name in self.__slots__)
        return f"{self.total / GB:.1f} GB ({', '.join(parts)})"


def check_memory(
    recipe: Recipe,
    objective: Objective,
    encoder: Encoder,
    device: torch.device,
    processes: ProcessGroup,
    *,
    warn: Callable[[str], None],
) -> MemoryEstimate | None:
    """The result of `needed_memory`. If that much is not free, raises ConfigError with settings
    that would fit."""
    free = free_memory(device)
    needed = needed_memory(recipe, objective, encoder, device, processes, warn=warn)
    if needed is None or free is None:
        return needed
    if device.type == "cpu":  # Each process has its own GPU.
        free //= processes.on_this_machine
    if SURE * needed.total <= free:
        return needed
    trees = _longest(recipe, objective, encoder, processes)
    estimate = partial(estimate_memory, objective=objective, device=device, processes=processes)
    fitting = islice(_fitting(recipe, objective, trees, estimate, free), 2)
    advice = " or ".join(fitting) or "use a smaller model or lower data.max_length"
    raise ConfigError(
        f"memory: this run needs about {needed}, but {free / GB:.1f} GB are free on {device}; "
        f"{advice}"
    )


def needed_memory(
    recipe: Recipe,
    objective: Objective,
    encoder: Encoder,
    device: torch.device,
    processes: ProcessGroup,
    *,
    warn: Callable[[str], None],
) -> MemoryEstimate | None:
    """Estimated memory of a run; None if the model is small or there is no data to look at."""
    trees = _longest(recipe, objective, encoder, processes) if _can_be_estimated(recipe) else []
    if not trees:
        return None
    try:
        return estimate_memory(
            recipe, trees, objective=objective, device=device, processes=processes
        )
    except FastslowError:
        raise
    except Exception as error:  # Some models read tensors' values, which fake ones lack.
        cause = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        warn(f"the memory this run needs could not be estimated ({cause})")
        return None


def estimate_memory(
    recipe: Recipe,
    trees: list[Tree],
    *,
    objective: Objective,
    device: torch.device,
    processes: ProcessGroup,
) -> MemoryEstimate:
    """Memory per process for a training pass over some trees."""
    with fake_modules(
        recipe.model,
        partial(make_modules, recipe, critic=isinstance(objective, ActorCritic)),
        precision=recipe.train.precision,
        device=device,
        trust_remote_code=recipe.trust_remote_code,
    ) as (modules, counted):
        weights = counted.now
        module_sizes = {name: _size(modules.parameters(name).values()) for name in modules.names}
        base = weights - sum(module_sizes.values())
        if recipe.load_in_4bit:
            base = _in_4_bits(base, modules)
        if processes.sharded:
            base = _sharded(base, modules, processes.size)
        policies = Policies(
            modules,
            bfloat16=in_bfloat16(recipe.train, device),
            max_length=recipe.data.max_length,
            pad_id=0,
            processes=processes,
            gradient_checkpointing=recipe.train.gradient_checkpointing,
            layout=Layout(trees=True),
        )
        batch = policies.batch(trees)
        before = counted.most = counted.now
        scores = policies.score(modules.trainable[0], batch, learning=True)
        kept = counted.now - before
        if recipe.train.gradient_checkpointing:
            # Activations inside a layer exist only during the backward pass.
            scores.sum().backward()
        activations = (len(modules.trainable) - 1) * kept + counted.most - before
    learned = sum(module_sizes[name] for name in modules.trainable)
    return MemoryEstimate(
        base=base,
        modules=sum(module_sizes.values()) + learned * (1 + KEPT[recipe.train.optimizer]),
        activations=int(activations * _scattered(recipe, device)),
    )


def _fitting(
    recipe: Recipe,
    objective: Objective,
    trees: list[Tree],
    estimate: Callable[..., MemoryEstimate],
    free: int,
) -> Iterator[str]:
    """Settings with which the run fits, and the memory it then needs, the mildest first."""
    for changes in _changes(objective, len(trees)):
        other = recipe.model_copy(
            update={
                "load_in_4bit": changes.get("load_in_4bit", recipe.load_in_4bit),
                "train": recipe.train.model_copy(
                    update={k.removeprefix("train."): v for k, v in changes.items()}
                ),
            }
        )
        micro_batch = trees[: changes.get("train.micro_batch_size", len(trees))]
        total = estimate(other, micro_batch).total
        if total <= free:
            settings = ", ".join(f"{key}: {str(value).lower()}" for key, value in changes.items())
            yield f"{settings} needs about {total / GB:.1f} GB"


def _changes(objective: Objective, count: int) -> Iterator[dict[str, Any]]:
    coupled = objective.coupled
    while count > 1 and not coupled:
        count //= 2
        yield {"train.micro_batch_size": count}
    fewer = {} if coupled else {"train.micro_batch_size": 1}
    checkpointed = {"train.gradient_checkpointing": True}
    halved = {"train.precision": "bfloat16"}
    yield checkpointed
    yield fewer | checkpointed
    yield fewer | checkpointed | halved
    yield fewer | checkpointed | halved | {"load_in_4bit": True}


def _can_be_estimated(recipe: Recipe) -> bool:
    sizes = [file.stat().st_size for file in Path(recipe.model).glob("*.safetensors")]
    # File sizes of models on a hub are unknown; data that cannot be read again is left alone.
    if may_be_empty(recipe):
        return False
    return rereadable(recipe.data.train_sources) and (not sizes or sum(sizes) >= SMALL)


def _longest(
    recipe: Recipe, objective: Objective, encoder: Encoder, processes: ProcessGroup
) -> list[Tree]:
    """The micro-batch with the most tokens among the first ones, its longest tree first."""
    share = processes.largest_share(recipe.train.batch_size)
    size = min(recipe.train.micro_batch_size or share, share)
    batches = islice(_micro_batches(recipe, objective, encoder, size), LOOKED_AT)
    longest = max(batches, key=lambda trees: sum(tree.num_tokens for tree in trees), default=[])
    return sorted(longest, key=lambda tree: -tree.num_tokens)


def _micro_batches(
    recipe: Recipe, objective: Objective, encoder: Encoder, size: int
) -> Iterator[list[Tree]]:
    if recipe.online is None:
        stream = train_stream(recipe, objective)
        for batch in BatchReader(stream, encoder, objective, batch_size=size):
            yield [item.tree for item in batch]
        return
    online, prompts = recipe.online, iter(prompt_stream(recipe, recipe.online))
    answer = (0,) * online.max_new_tokens
    while examples := list(islice(prompts, size)):
        trees = []
        for example in examples:
            with suppress(EncodingError):  # Such a prompt is skipped in the run.
                ids = encoder.prompt_ids_of(example, room=online.max_new_tokens)
                trees.append(Tree(ids, (answer,) * online.num_generations))
        yield trees


def _scattered(recipe: Recipe, device: torch.device) -> float:
    if device.type != "cpu":
        return SCATTERED_ON_GPU
    return 1.0 if recipe.train.gradient_checkpointing else SCATTERED


def _size(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _sharded(base: int, modules: Modules, parts: int) -> int:
    """Bytes of a base with its layers sharded in `parts`, of which two at a time are whole."""
    sizes = [
        _size(p for name, p in layer.named_parameters() if "lora_" not in name)
        for layer in layers_of(modules.causal_lm)
    ]
    return base - sum(sizes) + sum(sizes) // parts + 2 * max(sizes)


def _in_4_bits(base: int, modules: Modules) -> int:
    """Bytes of a base whose layers' weights are loaded in 4 bits; its output layer is not."""
    head = modules.causal_lm.get_output_embeddings()
    weights = [
        layer.weight
        for name, layer in modules.causal_lm.named_modules()
        if type(layer) is nn.Linear and layer.weight is not head.weight and "lora_" not in name
    ]
    return int(base - _size(weights) + NF4 * sum(weight.numel() for weight in weights))
