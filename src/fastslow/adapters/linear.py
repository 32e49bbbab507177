"""LoRA on a frozen linear layer with as few passes over its activations as possible.

PEFT computes the update separately from the layer's output, scales it and adds it, each as a new
tensor, and autograd mirrors all of that. Here the matrix product accumulates the update directly
onto the output, and the same for its gradient.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn import functional


class DirectLinear(Linear):
    """PEFT's LoRA layer, which computes so wherever nothing but A and B changes its output."""

    rank_factors: Mapping[str, Tensor] = MappingProxyType({})
    """By module, factors of its ranks while it counts as one matrix, see `as_one_matrix`."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output under its active modules, [..., out] for an input of [..., in]."""
        names = [name for name in self.active_adapters if name in self.lora_A]
        ordinary = not (self.disable_adapters or self.merged or args or kwargs)
        if not (names and ordinary and all(map(self._is_ordinary, names))):
            return super().forward(x, *args, **kwargs)
        base: Any = self.base_layer
        if len(names) == 1 and names[0] in self.rank_factors:
            (name,) = names
            factors = self.scaling[name] * self.rank_factors[name]
            update = (self.lora_B[name].weight * factors) @ self.lora_A[name].weight
            return functional.linear(x, base.weight, base.bias) + functional.linear(x, update)
        downs: list[Any] = [self.lora_A[name].weight for name in names]
        ups: list[Any] = [self.lora_B[name].weight for name in names]
        if len(names) == 1:
            scale = self.scaling[names[0]]
            return lora_linear(x, base.weight, base.bias, downs[0], ups[0], scale=scale)
        # Several modules are one of the sum of their ranks.
        scaled = [up * self.scaling[name] for up, name in zip(ups, names, strict=True)]
        down, up = torch.cat(downs), torch.cat(scaled, dim=1)
        return lora_linear(x, base.weight, base.bias, down, up, scale=1.0)

    def _is_ordinary(self, name: str) -> bool:
        """Whether a module drops nothing and has no parts that are its own."""
        if name in self.lora_variant or self.lora_bias[name]:
            return False
        dropout = self.lora_dropout[name]
        drops = dropout.training and not isinstance(dropout, nn.Identity)
        return not drops and not self.lora_A[name]._forward_hooks


@contextmanager
def as_one_matrix(layer: Any, name: str, factors: Tensor) -> Iterator[None]:
    """Inside, the module of a DirectLinear is multiplied out before it meets activations, and
    gradients reach the factors of its ranks, [r]: cheaper where these are more than the layer has
    rows or columns.
    """
    layer.rank_factors = {name: factors}
    try:
        yield
    finally:
        del layer.rank_factors


def make_direct(layer: nn.Module) -> None:
    """Let a LoRA layer compute this way if it is one of PEFT's on an ordinary linear layer."""
    if type(layer) is Linear and type(layer.base_layer) is nn.Linear:
        layer.__class__ = DirectLinear


def lora_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, *, scale: float
) -> Tensor:
    """x W^T + b + scale (x A^T) B^T, [..., out].

    In the precision of autocast or else of x, which A and B are rounded to; their gradients have
    their own. The layer's weight and bias get none.

    Args:
        x: [..., in].
        weight: W, [out, in].
        bias: b, [out].
        down: A, [r, in].
        up: B, [out, r].
        scale: of the update.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    # Autocast has nothing left to change inside, and to turn it off takes longer than a product.
    given = (
        x.to(dtype),
        weight.to(dtype),
        None if bias is None else bias.to(dtype),
        down.to(dtype),
        up.to(dtype),
        scale,
    )
    found: Tensor
    if torch.is_grad_enabled():
        found = _LoraLinear.apply(*given)  # type: ignore[no-untyped-call]
    else:  # A token is decoded faster without what remembers it for a gradient.
        found, *_ = _updated(*given)
    # Outside the function, whose output a model may then change in place, as Llama 4 does.
    return found.view(*x.shape[:-1], -1)


def _updated(
    x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, [N, out], with x as rows, [N, in], and x A^T, [N, r]."""
    rows = x.reshape(-1, x.shape[-1])
    low = rows @ down.T
    found = functional.linear(rows, weight, bias)
    return found.addmm_(low, up.T, alpha=scale), rows, low


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
    ) -> Tensor:
        found, rows, low = _updated(x, weight, bias, down, up, scale)
        ctx.save_for_backward(rows, weight, down, up, low)
        ctx.scale, ctx.shape = scale, x.shape
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, down, up, low = ctx.saved_tensors
        of_x, _, _, of_down, of_up, _ = ctx.needs_input_grad
        of_low = (gradient @ up).mul_(ctx.scale)
        into_x = (gradient @ weight).addmm_(of_low, down).view(ctx.shape) if of_x else None
        into_down = of_low.T @ rows if of_down else None
        into_up = (gradient.T @ low).mul_(ctx.scale) if of_up else None
        return into_x, None, None, into_down, into_up, None
