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
    """PEFT's LoRA layer, computed this way whenever only A and B change its output."""

    rank_factors: Mapping[str, Tensor] = MappingProxyType({})
    """By module, factors of its ranks inside `as_one_matrix`."""

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
        # Several modules equal one whose rank is the sum of theirs.
        scaled = [up * self.scaling[name] for up, name in zip(ups, names, strict=True)]
        down, up = torch.cat(downs), torch.cat(scaled, dim=1)
        return lora_linear(x, base.weight, base.bias, down, up, scale=1.0)

    def _is_ordinary(self, name: str) -> bool:
        """Whether a module has no active dropout and no special parts."""
        if name in self.lora_variant or self.lora_bias[name]:
            return False
        dropout = self.lora_dropout[name]
        drops = dropout.training and not isinstance(dropout, nn.Identity)
        return not drops and not self.lora_A[name]._forward_hooks


@contextmanager
def as_one_matrix(layer: Any, name: str, factors: Tensor) -> Iterator[None]:
    """Inside, a DirectLinear's module is multiplied out before it is applied to activations, and
    gradients reach the factors of its ranks, [r]: cheaper if these outnumber the layer's rows or
    columns.
    """
    layer.rank_factors = {name: factors}
    try:
        yield
    finally:
        del layer.rank_factors


def make_direct(layer: nn.Module) -> None:
    """Let a LoRA layer compute this way if it is PEFT's, on an ordinary linear layer."""
    if type(layer) is Linear and type(layer.base_layer) is nn.Linear:
        layer.__class__ = DirectLinear


def lora_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, *, scale: float
) -> Tensor:
    """x W^T + b + scale (x A^T) B^T, [..., out].

    Computed in the precision of autocast, or else of x, to which A and B are rounded; their
    gradients keep their own precision. The layer's weight and bias get none.

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
    # Autocast has nothing left to change inside, and turning it off takes longer than a product.
    inputs = (
        x.to(dtype),
        weight.to(dtype),
        None if bias is None else bias.to(dtype),
        down.to(dtype),
        up.to(dtype),
        scale,
    )
    output: Tensor
    if torch.is_grad_enabled():
        output = _LoraLinear.apply(*inputs)  # type: ignore[no-untyped-call]
    else:  # Decoding is faster without autograd's bookkeeping.
        output, *_ = _updated(*inputs)
    # Outside the function, whose output a model may then change in place, as Llama 4 does.
    return output.view(*x.shape[:-1], -1)


def _updated(
    x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, [N, out], with x as rows, [N, in], and x A^T, [N, r]."""
    rows = x.reshape(-1, x.shape[-1])
    low = rows @ down.T
    output = functional.linear(rows, weight, bias)
    return output.addmm_(low, up.T, alpha=scale), rows, low


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
        output, rows, low = _updated(x, weight, bias, down, up, scale)
        ctx.save_for_backward(rows, weight, down, up, low)
        ctx.scale, ctx.shape = scale, x.shape
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, down, up, low = ctx.saved_tensors
        needs_x, _, _, needs_down, needs_up, _ = ctx.needs_input_grad
        grad_low = (gradient @ up).mul_(ctx.scale)
        grad_x = (gradient @ weight).addmm_(grad_low, down).view(ctx.shape) if needs_x else None
        grad_down = grad_low.T @ rows if needs_down else None
        grad_up = (gradient.T @ low).mul_(ctx.scale) if needs_up else None
        return grad_x, None, None, grad_down, grad_up, None
