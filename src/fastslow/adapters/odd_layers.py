"""Parts of a base that get no module: layers that only look linear, experts in one tensor."""

from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""What else has weights of three dimensions or more."""


def odd_layers(base: Any) -> list[str] | None:
    """Names of linear layers that give more than a product, such as routers; None without any."""
    linear = ((name, part) for name, part in base.named_modules() if isinstance(part, nn.Linear))
    return [name for name, layer in linear if not _gives_a_product(layer, base)] or None


def untouched_experts(causal_lm: Any) -> list[str]:
    """Names of the weights of experts, several in one tensor, that no module changes."""
    return [
        f"{name}.{key}" if name else key
        for name, part in causal_lm.named_modules()
        if not isinstance(part, CONVOLUTIONS) and ".base_layer" not in name
        for key, parameter in part.named_parameters(recurse=False)
        if parameter.dim() > 2 and min(parameter.shape) > 1
    ]


def _gives_a_product(layer: nn.Linear, base: Any) -> bool:
    if type(layer).__module__ != type(base).__module__:
        return True  # Torch's, or that of a kind of quantisation.
    try:
        with torch.no_grad():
            found = layer(layer.weight.new_zeros(1, layer.in_features))
    except (RuntimeError, ValueError, TypeError):
        return False
    return isinstance(found, Tensor) and found.shape == (1, layer.out_features)
