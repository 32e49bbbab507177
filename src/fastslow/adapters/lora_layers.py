"""The LoRA layers of a model with modules, and their parameters."""

from collections.abc import Callable, Mapping
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from fastslow.errors import ConfigError


def parameters_of(model: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The tensors of one module by their full name in the model.

    The module's name follows `lora_A` and the like; a layer before it may have the same one.
    """
    return {
        key: parameter
        for key, parameter in model.named_parameters()
        if key.partition(".lora_")[2].split(".")[1:2] == [name]
    }


def lora_layers_of(model: nn.Module) -> list[Any]:
    """The layers that modules change."""
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def put_factors(model: nn.Module, name: str, factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Set a module's updates B A, by layer name; other layers get none.

    Ranks that the factors lack are 0. Raises ConfigError if the module's rank is smaller.
    """
    module: Any
    for layer, module in model.named_modules():
        if name not in getattr(module, "lora_A", {}):
            continue
        lora_a, lora_b = module.lora_A[name].weight.data, module.lora_B[name].weight.data
        lora_a.zero_()
        lora_b.zero_()
        if layer not in factors:
            continue
        a, b = factors[layer]
        if len(a) > len(lora_a):
            raise ConfigError(f"{layer}: rank {len(a)} is larger than the module's, {len(lora_a)}")
        lora_a[: len(a)].copy_(a)
        lora_b[:, : len(a)].copy_(b / module.scaling[name])


def dropouts_of(layer: Any) -> list[tuple[str, nn.Module]]:
    """A layer's dropouts that drop anything, by module."""
    dropouts = getattr(layer, "lora_dropout", {})
    return [(key, part) for key, part in dropouts.items() if not isinstance(part, nn.Identity)]


def scale_by(factors: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """A forward hook that multiplies a layer's output."""
    return lambda module, inputs, output: output * factors
