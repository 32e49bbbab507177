"""Finds parts of a base that get no module: layers that only look linear, experts in one tensor."""

from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Other layers with weights of three or more dimensions."""


def odd_layers(base: Any) -> list[str] | None:
    """Names of linear layers that return more than a product, such as routers; None without any."""
    linear = ((name, part) for name, part in base.named_modules() if isinstance(part, nn.Linear))
    return [name for name, layer in linear if not _gives_a_product(layer, base)] or None


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
