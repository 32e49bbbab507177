"""Layers below the lowest module are passed once for a batch, and nothing else changes."""

import re

import pytest
import tiny
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from fastslow import training
from fastslow.adapters import Modules
from fastslow.scoring import Layout, Scorer, Tree
from fastslow.scoring.layers import blocks_of
from fastslow.training.policies.policies import Policies

TREES = [Tree((5, 6, 7), ((8, 9), (10,))), Tree((11, 12), ((13,), (14, 15, 16), (17,)))]


def policies_on(architecture, targets=None, **settings):
    """Two modules with weights of their own on the upper of two layers."""
    base = tiny.model(architecture)
    upper = set(blocks_of(base)[1].modules())
    linear = [
        re.escape(name)
        for name, part in base.named_modules()
        if part in upper and isinstance(part, nn.Linear | Conv1D)
    ]
    targets = targets or "|".join(linear)
    modules = Modules.attach(base, ("fast", "slow"), rank=2, alpha=4.0, targets=targets)
    generator = torch.Generator().manual_seed(1)
    for name in modules.names:
        for parameter in modules.parameters(name).values():
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    trees = Layout(trees=True)
    return Policies(modules, bfloat16=False, max_length=64, pad_id=0, layout=trees, **settings)


def passes(policies):
    """Counts how often something of either layer is computed."""
    counts = [0, 0]

    def count(place):
        def hook(*_):
            counts[place] += 1

        return hook

    for place, layer in enumerate(blocks_of(policies.modules.causal_lm)):
        layer.input_layernorm.register_forward_hook(count(place))
    return counts


def found(policies, batch):
    """Scores under the base and both modules, and gradients of one backward pass."""
    policies.modules.model.zero_grad()
    sums = [policies.score("base", batch)]
    sums += [policies.score(name, batch, learning=True) for name in ("fast", "slow")]
    (sums[1].square().sum() + sums[2].sum()).backward()
    own = [
        p.grad.clone()
        for name in ("fast", "slow")
        for p in policies.modules.parameters(name).values()
    ]
    return [value.detach() for value in sums] + own


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_scores_and_gradients_are_the_same_bits(architecture, recompute):
    policies = policies_on(architecture, gradient_checkpointing=recompute)
    batch, other = policies.batch(TREES), policies.batch(TREES[::-1])
    kept = [*found(policies, batch), *found(policies, other), *found(policies, batch)]
    policies._scorer = Scorer(policies.modules.causal_lm, policies.layout)
    plain = [*found(policies, batch), *found(policies, other), *found(policies, batch)]
    assert all(torch.equal(a, b) for a, b in zip(kept, plain, strict=True))
    assert not torch.equal(kept[0], kept[1])


def test_a_batch_passes_what_lies_below_once():
    policies = policies_on("llama")
    counts, batch = passes(policies), policies.batch(TREES)
    found(policies, batch)
    assert counts == [1, 3]
    found(policies, policies.batch(TREES))  # The same trees, but another batch.
    assert counts == [2, 6]
    policies.score("base", batch)
    assert counts == [3, 7]


@pytest.mark.parametrize(
    "targets",
    ["all-linear", ["q_proj"], ["embed_tokens", "q_proj"], r".*embed_tokens|.*\.1\..*_proj"],
)
def test_nothing_is_kept_where_the_lowest_layer_differs(targets):
    policies = policies_on("llama", targets)
    counts = passes(policies)
    found(policies, policies.batch(TREES))
    assert counts == [3, 3]


def test_a_pass_that_failed_leaves_nothing_behind(monkeypatch):
    policies = policies_on("llama")
    batch = policies.batch(TREES)
    expected = policies.score("fast", batch)
    other = policies.batch(TREES[::-1])
    upper = blocks_of(policies.modules.causal_lm)[1]
    with monkeypatch.context() as patch:
        patch.setattr(upper.mlp, "forward", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            policies.score("fast", other)
    assert torch.equal(policies.score("fast", other), policies.score("fast", other))
    assert torch.equal(policies.score("fast", batch), expected)


def test_a_run_learns_in_the_upper_layers_only(recipe):
    made = recipe("train.max_steps=3", r"lora.target_modules=.*layers\.1\..*_proj")
    training.train(made)
    for tensors in tiny.adapters(made.output_dir).values():
        assert tensors and all(".layers.1." in key for key in tensors)
