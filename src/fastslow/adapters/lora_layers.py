"""The LoRA layers of a model with modules on it, and what is theirs."""

from collections.abc import Callable
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn


def parameters_of(model: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The tensors of one module by their full name in the model."""
    return {
        key: parameter
        for key, parameter in model.named_parameters()
        if "lora_" in key and name in key.split(".")
    }


def lora_layers_of(model: nn.Module) -> list[Any]:
    """The layers that modules change."""
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def dropouts_of(layer: Any) -> list[tuple[str, nn.Module]]:
    """Those that drop anything, by module."""
    own = getattr(layer, "lora_dropout", {})
    return [(key, part) for key, part in own.items() if not isinstance(part, nn.Identity)]


def scale_by(factors: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """A forward hook that multiplies a layer's output."""
    return lambda module, given, output: output * factors
