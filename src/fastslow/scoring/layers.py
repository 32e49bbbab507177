"""The layers of a transformers model: compiled, or computed again where gradients need them."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from fastslow.errors import ConfigError

Again = Callable[[nn.Module], AbstractContextManager[Any]]
"""Called with a layer: inside, the layer runs in the state of when the function was created."""

BEFORE = "_fastslow_before"
"""Attribute of a wrapped forward pass: the layer's own before, None where it is its class's."""

VARIANTS = 32
"""Compiled variants of a layer: with or without gradients, per module and for the base."""


def backbone_of(model: Any) -> Any:
    """The part of a causal LM below its output layer. Raises ConfigError where it is not known."""
    named = getattr(model, model.base_model_prefix or "model", None)
    if named is None:  # Some models, such as Llama 4's, have it under another name than they say.
        named = next((part for part in model.children() if isinstance(part, PreTrainedModel)), None)
    if named is None:
        raise ConfigError(
            f"model: {type(model).__name__} has no part below its output layer that is known here, "
            "so its log-probs cannot be computed; choose another model"
        )
    return named


def blocks_of(model: Any) -> list[nn.Module]:
    """The layers that follow one another in a model; none where they are not known."""
    return [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]


def layers_of(model: Any) -> list[nn.Module]:
    """As `blocks_of`, but raises ConfigError where they are not known."""
    found = blocks_of(model)
    if not found:
        raise ConfigError(
            f"model: the layers of {type(model).__name__} are not known, so they cannot be "
            "compiled, checkpointed or sharded; set train.compile and "
            "train.gradient_checkpointing to false, and launch without --use_fsdp"
        )
    return found


def compile_layers(model: Any) -> None:
    """From now on the layers run compiled, from their first pass on."""
    torch._dynamo.config.recompile_limit = VARIANTS
    for layer in layers_of(model):
        layer.compile(dynamic=True)


def wrap_layer(layer: nn.Module, around: Callable[..., Any]) -> None:
    """Replace a layer's forward pass by `around(layer, forward, *args, **kwargs)`.

    The layer does not refer to itself by this, so that it is freed as soon as nobody needs it.
    """
    before, owner = layer.__dict__.get("forward"), weakref.ref(layer)

    def forward(*args: Any, **kwargs: Any) -> Any:
        own = owner()
        assert own is not None
        return around(own, before or partial(type(own).forward, own), *args, **kwargs)

    setattr(forward, BEFORE, before)
    layer.forward = forward


def unwrap_layers(model: Any) -> None:
    """Take back what `wrap_layer` did to a model's layers."""
    for layer in blocks_of(model):
        own = layer.__dict__.pop("forward", None)
        while hasattr(own, BEFORE):
            own = getattr(own, BEFORE)
        if own is not None:
            layer.forward = own


class ActivationCheckpointing:
    """Layers keep only their inputs and are computed again for the backward pass.

    Needs memory for one layer at a time instead of all, and about a third more operations.
    """

    def __init__(self, model: Any) -> None:
        self._again: Again | None = None
        for layer in layers_of(model):
            wrap_layer(layer, self._forward)

    @contextmanager
    def passing(self, again: Again) -> Iterator[None]:
        """Inside, layers are recomputed under `again`, independent of the active adapter."""
        self._again = again
        try:
            yield
        finally:
            self._again = None

    def _forward(self, layer: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
        again = self._again
        if again is None or not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(
            forward,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), again(layer)),
            **kwargs,
        )
