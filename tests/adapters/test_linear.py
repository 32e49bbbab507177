"""LoRA layers computed directly, against PEFT's own way."""

from copy import deepcopy

import pytest
import tiny
import torch
from peft.tuners.lora import Linear
from torch.autograd import gradcheck

from fastslow.adapters import Modules
from fastslow.adapters.linear import DirectLinear, lora_linear


def drawn(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def stirred_modules():
    modules = Modules.attach(tiny.model(), ("fast", "slow"), rank=4, alpha=8.0)
    stir(modules, seed=1)
    return modules


def stir(modules, seed):
    for parameter in modules.parameters("fast").values():
        parameter.data.copy_(0.05 * drawn(*parameter.shape, seed=seed))


@pytest.mark.parametrize("bias", [None, drawn(7, seed=9)])
def test_it_is_the_sum_of_the_layer_and_its_update(bias):
    x, weight, down, up = (
        drawn(2, 3, 5),
        drawn(7, 5, seed=1),
        drawn(2, 5, seed=2),
        drawn(7, 2, seed=3),
    )
    found = lora_linear(x, weight, bias, down, up, scale=0.5)
    expected = x @ (weight + 0.5 * up @ down).T + (0 if bias is None else bias)
    torch.testing.assert_close(found, expected)
    inputs = [value.requires_grad_() for value in (x, down, up)]
    assert gradcheck(lambda x, a, b: lora_linear(x, weight, bias, a, b, scale=0.5), inputs)


def test_only_what_is_asked_for_gets_a_gradient():
    x, weight, down, up = drawn(4, 5), drawn(7, 5, seed=1), drawn(2, 5, seed=2), drawn(7, 2, seed=3)
    weight.requires_grad_()
    up.requires_grad_()
    lora_linear(x, weight, None, down, up, scale=1.0).sum().backward()
    assert up.grad is not None and x.grad is down.grad is weight.grad is None


def test_autocast_decides_the_precision_and_gradients_keep_their_own():
    x, weight = drawn(6, 8, dtype=torch.float32), drawn(4, 8, seed=1, dtype=torch.float32)
    down, up = (drawn(*s, seed=2, dtype=torch.float32).requires_grad_() for s in ((2, 8), (4, 2)))
    exact = lora_linear(x, weight, None, down, up, scale=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = lora_linear(x, weight, None, down, up, scale=1.0)
    assert coarse.dtype == torch.bfloat16
    torch.testing.assert_close(coarse.float(), exact, atol=0.1, rtol=0.02)
    coarse.float().sum().backward()
    assert down.grad.dtype == up.grad.dtype == torch.float32


def peft_alone(modules):
    """The same modules, computed as PEFT does."""
    copied = deepcopy(modules.causal_lm)
    for layer in copied.modules():
        if type(layer) is DirectLinear:
            layer.__class__ = Linear
    return copied


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_answers_and_learns_as_with_peft(dtype):
    modules = stirred_modules()
    modules.causal_lm.to(dtype)
    assert any(type(layer) is DirectLinear for layer in modules.causal_lm.modules())
    ids = torch.tensor([[5, 6, 7, 8, 9, 10], [3, 4, 5, 6, 7, 8]])
    tolerance = (
        {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 1e-11, "rtol": 0}
    )
    with modules.using("fast"):
        usual = peft_alone(modules)
        results = []
        for model in (modules.causal_lm, usual):
            logits = model(ids).logits
            logits.logsumexp(-1).sum().backward()
            named = dict(model.named_parameters())
            results.append((logits, {key: named[key].grad for key in named if "fast" in key}))
    (logits, gradients), (expected, others) = results
    torch.testing.assert_close(logits, expected, **tolerance)
    assert gradients.keys() == others.keys() and len(gradients) > 10
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, others[key], **tolerance)


def test_a_copy_has_its_own_weights():
    modules = stirred_modules()
    ids = torch.tensor([[5, 6, 7]])
    with modules.using("fast"):
        copied = deepcopy(modules.causal_lm)
        before = copied(ids).logits
        stir(modules, seed=5)
        assert torch.equal(copied(ids).logits, before)
        assert not torch.equal(modules.causal_lm(ids).logits, before)


def test_a_model_may_change_the_output_in_place():
    x, weight, down, up = drawn(2, 3, 5), drawn(7, 5, seed=1), drawn(2, 5, seed=2), drawn(7, 2)
    gradients = []
    for in_place in (False, True):
        factors = [value.clone().requires_grad_() for value in (down, up)]
        found = lora_linear(x, weight, None, *factors, scale=0.5)
        total = found.add_(x.sum()) if in_place else found + x.sum()
        total.square().sum().backward()
        gradients.append([factor.grad for factor in factors])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
