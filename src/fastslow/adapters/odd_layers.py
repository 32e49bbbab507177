"""Layers that look linear and are not, which get no module."""

from typing import Any

import torch
from torch import Tensor, nn


def odd_layers(base: Any) -> list[str] | None:
    """Names of linear layers that give more than a product, such as routers; None without any."""
    linear = ((name, part) for name, part in base.named_modules() if isinstance(part, nn.Linear))
    return [name for name, layer in linear if not _gives_a_product(layer, base)] or None


def _gives_a_product(layer: nn.Linear, base: Any) -> bool:
    if type(layer).__module__ != type(base).__module__:
        return True  # Torch's, or that of a kind of quantisation.
    try:
        with torch.no_grad():
            found = layer(layer.weight.new_zeros(1, layer.in_features))
    except (RuntimeError, ValueError, TypeError):
        return False
    return isinstance(found, Tensor) and found.shape == (1, layer.out_features)
