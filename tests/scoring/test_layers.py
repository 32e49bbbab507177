"""Layers that are compiled or computed anew: the same numbers, other memory."""

import shutil
from functools import partial, partialmethod

import pytest
import tiny
import torch
from tiers import fast

from fastslow import training
from fastslow.adapters import Modules
from fastslow.errors import ConfigError
from fastslow.scoring import Tree, compile_layers
from fastslow.scoring.layers import layers_of, unwrap_layers, wrap_layer
from fastslow.training.policies.policies import Policies

TREES = [Tree((5, 6, 7), ((8, 9), (10,))), Tree((11, 12), ((13,), (14, 15, 16), (17,)))]


def policies_on(architecture, *, recompute, dropout=0.0, **changes):
    modules = Modules.attach(
        tiny.model(architecture, **changes), ("fast", "slow"), rank=2, alpha=4.0, dropout=dropout
    )
    generator = torch.Generator().manual_seed(1)
    for name in modules.names:
        for parameter in modules.parameters(name).values():
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    settings = {"max_length": 64, "pad_id": 0, "gradient_checkpointing": recompute}
    return Policies(modules, bfloat16=False, **settings)


def gradients(policies):
    """Of both modules, after both were scored and learned from in one backward pass."""
    torch.manual_seed(3)
    batch = policies.batch(TREES)
    sums = [policies.score(name, batch, learning=True) for name in ("fast", "slow")]
    (sums[0].square().sum() + sums[1].sum()).backward()
    return {
        (name, key): parameter.grad
        for name in policies.modules.names
        for key, parameter in policies.modules.parameters(name).items()
    }


@pytest.mark.parametrize("dropout", fast([0.3], [0.0, 0.3]))
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_gradients_of_two_modules_are_the_same_bits(architecture, dropout):
    kept, anew = (
        gradients(policies_on(architecture, recompute=recompute, dropout=dropout))
        for recompute in (False, True)
    )
    assert all(gradient.abs().max() > 0 for gradient in kept.values())
    assert all(torch.equal(kept[key], anew[key]) for key in kept)


def test_wraps_are_taken_off_down_to_what_the_layer_had():
    model = tiny.model()
    hooked, plain = layers_of(model)[:2]

    def hook(*args, **kwargs):
        return type(hooked).forward(hooked, *args, **kwargs)

    hooked.forward = hook  # As accelerate does where a model is spread over devices.
    seen = []
    for place in ("inner", "outer"):
        for layer in (hooked, plain):
            wrap_layer(layer, partial(noted, seen, place))
    model(torch.tensor([[1, 2]]))
    assert seen == ["outer", "inner"] * 2
    unwrap_layers(model)
    assert hooked.forward is hook and "forward" not in plain.__dict__
    model(torch.tensor([[1, 2]]))
    assert len(seen) == 4


def noted(seen, place, layer, forward, *args, **kwargs):
    seen.append(place)
    return forward(*args, **kwargs)


def test_what_is_active_is_left_as_it_was():
    policies = policies_on("llama", recompute=True)
    batch = policies.batch(TREES)
    before = policies.score("base", batch)
    gradients(policies)
    assert torch.equal(policies.score("base", batch), before)
    trainable = [p for name in ("fast", "slow") for p in policies.modules.parameters(name).values()]
    assert all(p.requires_grad for p in trainable)


def test_fewer_activations_are_kept():
    def kept_bytes(recompute):
        policies, total = policies_on("llama", recompute=recompute), 0

        def count(tensor):
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            policies.score("fast", policies.batch(TREES), learning=True)
        return total

    assert kept_bytes(True) < 0.3 * kept_bytes(False)


def test_a_run_is_the_same_with_layers_computed_anew(recipe):
    runs, measured = [], []
    for anew in ("false", "true"):
        made = recipe(
            f"train.gradient_checkpointing={anew}", "train.max_steps=6", "lora.dropout=0.1",
            "eval.num_prompts=2",
        )  # fmt: skip
        measured.append(training.train(made).eval)
        runs.append(tiny.adapters(made.output_dir))
        shutil.rmtree(made.output_dir)
    assert tiny.same(*runs) and measured[0] == measured[1]


WITH_GPP = pytest.mark.skipif(
    shutil.which("g++") is None, reason="NOT TESTED: there is no C++ compiler"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "layers"), [("eager", 1), pytest.param("inductor", 2, marks=WITH_GPP)]
)
def test_compiled_layers_give_the_same_numbers(backend, layers, monkeypatch):
    """With the graphs that are traced as they are, and with the code that is made of them."""
    with_default = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(with_default, backend=backend))
    plain, compiled = (
        policies_on("llama", recompute=False, num_hidden_layers=layers) for _ in range(2)
    )
    compile_layers(compiled.modules.causal_lm)
    counters = torch._dynamo.utils.counters
    counters.clear()
    torch.testing.assert_close(
        compiled.score("fast", compiled.batch(TREES)),
        plain.score("fast", plain.batch(TREES)),
        atol=1e-4,
        rtol=0,
    )
    found, expected = gradients(compiled), gradients(plain)
    assert found.keys() == expected.keys()
    assert counters["stats"]["unique_graphs"] > 0
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], atol=1e-3, rtol=1e-3)


def test_a_model_without_known_layers_is_refused():
    with pytest.raises(ConfigError, match=r"layers of Linear are not known.*set train.compile"):
        layers_of(torch.nn.Linear(2, 2))


def test_compiled_layers_are_not_computed_anew(recipe):
    with pytest.raises(ConfigError, match="cannot be combined with train.gradient_checkpointing"):
        recipe("train.compile=true", "train.gradient_checkpointing=true")
