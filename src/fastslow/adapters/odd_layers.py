"""Finds parts of a base that get no module: layers that only look linear, experts in one tensor."""

from typing import Any

import torch
from torch import Tensor, nn

from fastslow.errors import ConfigError, did_you_mean

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Other layers with weights of three or more dimensions."""


def odd_layers(base: Any) -> list[str] | None:
    """Names of linear layers that return more than a product, such as routers; None without any."""
    linear = ((name, part) for name, part in base.named_modules() if isinstance(part, nn.Linear))
    return [name for name, layer in linear if not _gives_a_product(layer, base)] or None


def check_targets(base: Any, targets: str | list[str]) -> None:
    """Raise ConfigError if a name in a list of targets is that of no layer, which PEFT only refuses
    if it is so for all of them."""
    names = [name for name, _ in base.named_modules()]
    for target in [] if isinstance(targets, str) else targets:
        if not any(f".{name}".endswith(f".{target}") for name in names):
            near = did_you_mean(target, _linear_layers(base))
            raise ConfigError(wrong_targets(base, f"no layer is called {target!r}{near}"))


def wrong_targets(base: Any, fault: str) -> str:
    """The error message for a fault in the targets, with the names of the base's layers."""
    fault = fault.partition(" Please check")[0].rstrip(".")  # PEFT's advice.
    return f"lora.target_modules: {fault}; its linear layers are {', '.join(_linear_layers(base))}"


def _linear_layers(base: Any) -> list[str]:
    """The last parts of the names of the layers that are matrices, each once."""
    head = base.get_output_embeddings()
    layers = {
        name.rpartition(".")[2]: None
        for name, part in base.named_modules()
        if getattr(getattr(part, "weight", None), "ndim", 0) == 2
        and not (isinstance(part, nn.Embedding) or part is head)
    }
    return list(layers)


def untouched_experts(causal_lm: Any) -> list[str]:
    """Names of weights that hold several experts in one tensor, which no module changes."""
    return [
        f"{name}.{key}" if name else key
        for name, part in causal_lm.named_modules()
        if not isinstance(part, CONVOLUTIONS) and ".base_layer" not in name
        for key, parameter in part.named_parameters(recurse=False)
        if parameter.dim() > 2 and min(parameter.shape) > 1
    ]


def _gives_a_product(layer: nn.Linear, base: Any) -> bool:
    if type(layer).__module__ != type(base).__module__:
        return True  # Torch's, or a quantised one.
    try:
        with torch.no_grad():
            output = layer(layer.weight.new_zeros(1, layer.in_features))
    except (RuntimeError, ValueError, TypeError):
        return False
    return isinstance(output, Tensor) and output.shape == (1, layer.out_features)
