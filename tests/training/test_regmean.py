"""RegMean for LoRA: the least squares that it solves, on inputs that are seen without it."""

import math
from pathlib import Path

import pytest
import torch

from fastslow import training
from fastslow.adapters import Bank, Factors, load_tokenizer
from fastslow.config import load_recipe
from fastslow.training.continual import regmean
from fastslow.training.continual.combined import Combination
from fastslow.training.continual.distillation import Lesson
from fastslow.training.continual.memory import kept_examples
from fastslow.training.continual.regmean import RIDGE, STRENGTHS, average, fitted_modules
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.policies.loading import SharedBase, make_encoder, open_policies
from fastslow.training.state.event_log import unwatched


@pytest.fixture(scope="module")
def entries(continual_run):
    return Bank(continual_run[0] / "bank").entries()


@pytest.fixture(scope="module")
def merging(entries):
    """Policies of the entries, their modules, and the lessons."""
    recipe = load_recipe(entries[-1].config)
    tokenizer = load_tokenizer(recipe.model)
    bases = SharedBase(ProcessGroup())
    policies = open_policies(recipe, {e.name: e.folder for e in entries}, tokenizer, bases)
    encoder = make_encoder(recipe, tokenizer)
    lessons = [Lesson(entry.name, kept_examples(entry, encoder)) for entry in entries]
    return policies, [entry.factors() for entry in entries], lessons


def moment(policies, lesson, layer):
    """Mean of x x^T over a layer's inputs, each token of a tree once, response by response."""
    seen = []
    model = policies.modules.causal_lm
    handle = model.get_submodule(layer).register_forward_pre_hook(
        lambda _, given: seen.append(given[0][0].double())
    )
    rows = []
    for item in lesson.examples:
        for number, response in enumerate(item.tree.responses):
            with policies.modules.using(lesson.teacher), torch.no_grad():
                model(input_ids=torch.tensor([[*item.tree.prompt, *response]]))
            rows.append(seen.pop()[len(item.tree.prompt) if number else 0 :])
    handle.remove()
    inputs = torch.cat(rows)
    return inputs.T @ inputs / len(inputs)


def test_the_sum_is_the_least_squares_over_every_domains_inputs(merging):
    policies, modules, lessons = merging
    fitted = fitted_modules(policies, modules, lessons)
    layers = list(modules[0].layers)
    for layer in (layers[0], layers[-1]):
        moments = [moment(policies, lesson, layer) for lesson in lessons]
        ridge = RIDGE * sum(moments).diagonal().mean() / len(moments)
        total = sum(module.update(layer).double() for module in fitted)
        slope = sum(
            (total - module.update(layer).double()) @ (g + ridge * torch.eye(len(g)))
            for module, g in zip(modules, moments, strict=True)
        )
        scale = sum(
            (module.update(layer).double() @ g).norm()
            for module, g in zip(modules, moments, strict=True)
        )
        assert scale > 0 and slope.norm() / scale < 1e-3, layer
        assert all(
            torch.equal(new.layers[layer][1], old.layers[layer][1])
            for new, old in zip(fitted, modules, strict=True)
        )


def test_one_module_is_itself(merging):
    policies, modules, lessons = merging
    (alone,) = fitted_modules(policies, modules[:1], lessons[:1])
    for layer in alone.layers:
        torch.testing.assert_close(alone.update(layer), modules[0].update(layer))


def test_the_strength_is_the_one_with_the_least_kl(entries, monkeypatch):
    recipe = load_recipe(entries[-1].config)
    calls, asked = [], []
    plain = regmean._distance

    def look(policies, lesson):
        asked.append((lesson.teacher, plain(policies, lesson)))
        return asked[-1][1]

    monkeypatch.setattr(regmean, "_distance", look)
    bases = SharedBase(ProcessGroup())
    total, strength, kl = average(
        entries, recipe, bases, progress=lambda done, of: calls.append((done, of))
    )
    means = [math.fsum(kl for _, kl in asked[i : i + 2]) / 2 for i in range(0, len(asked), 2)]
    assert len(means) == len(STRENGTHS) and kl == pytest.approx(min(means))
    assert strength == STRENGTHS[means.index(min(means))]
    assert calls == [(i + 1, len(STRENGTHS)) for i in range(len(STRENGTHS))]
    assert total.rank == 4
    again, *_ = average(entries, recipe, bases, progress=unwatched)
    assert all(torch.equal(again.update(key), total.update(key)) for key in total.layers)


def test_a_run_ends_with_it(continual):
    made = continual(weights="regmean", start="continue")
    told = []
    summary = training.train(made, listener=told.append)
    found = Combination.read(Path(made.output_dir) / "combinations/02")
    assert found.kind == "regmean" and found.rank == 4 and found.kl > 0
    assert summary.weights == found.weights and set(found.weights.values()) <= set(STRENGTHS)
    assert not [e for e in told if e["event"] == "warning" and "twice" in e["message"]]
    assert Factors.read(Path(made.output_dir) / "adapters/combined")
