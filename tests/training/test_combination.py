"""Entries of a real bank to one policy, against a base whose weights were really changed."""

import json
from dataclasses import replace

import pytest
import tiny
import torch

from fastslow.adapters import BASE, Bank, Factors, Modules, load_base
from fastslow.atomic_io import new_folder
from fastslow.config import load_recipe
from fastslow.errors import ConfigError, DataError, StateError
from fastslow.objectives import make_objective
from fastslow.training.continual.combination import write_combination
from fastslow.training.continual.combined import Combination
from fastslow.training.continual.memory import read_memory
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.policies.loading import SharedBase
from fastslow.training.policies.routed import Router
from fastslow.training.state.event_log import unwatched

IDS = torch.tensor([[5, 60, 7, 81, 9, 110]])


@pytest.fixture(scope="module")
def entries(continual_run):
    return Bank(continual_run[0] / "bank").entries()


def combined(entries, to, kind="fixed", **options):
    recipe = load_recipe(entries[-1].config)
    bases = SharedBase(ProcessGroup())
    with new_folder(to) as draft:
        return write_combination(
            entries, recipe, draft, bases, kind=kind, progress=unwatched, **options
        )


def logits(model_folder, folder):
    modules = Modules.load(load_base(str(model_folder)), {"one": folder}, trainable=())
    with modules.using("one"), torch.no_grad():
        return modules.causal_lm(IDS).logits


def dense_logits(model_folder, entries, weights):
    """Of the base with the sum of the modules' dense updates in its weights."""
    base = load_base(str(model_folder))
    named = dict(base.named_modules())
    for entry, weight in zip(entries, weights, strict=True):
        module = entry.factors()
        for layer in module.layers:
            named[layer].weight.data += weight * module.update(layer)
    with torch.no_grad():
        return base(IDS).logits


def updates(folder):
    module = Factors.read(folder)
    return {layer: module.update(layer) for layer in module.layers}


def close(first, second, atol=1e-6):
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, atol=atol, rtol=0)


def test_the_combined_policy_is_the_base_with_the_summed_updates(model_folder, entries, tmp_path):
    found = []
    for number, weights in enumerate(([0.7, 0.4], [1.0, -0.5], [0.0, 1.25])):
        made = combined(entries, tmp_path / str(number), fixed=weights)
        assert made.rank == 4 and made.lost is None and made.policy == "combined"
        assert made.weights == dict(zip(("01-warm", "02-cold"), weights, strict=True))
        found.append(logits(model_folder, tmp_path / str(number)))
        expected = dense_logits(model_folder, entries, weights)
        torch.testing.assert_close(found[-1], expected, atol=1e-5, rtol=1e-5)
    assert (found[0] - found[1]).abs().max() > 1e-2
    assert Combination.read(tmp_path / "2") == made


def test_a_bank_of_one_with_weight_one_is_that_module(model_folder, entries, tmp_path):
    combined(entries[:1], tmp_path / "one", fixed=[1.0])
    combined(entries[:1], tmp_path / "uniform", kind="uniform")
    close(updates(entries[0].folder), updates(tmp_path / "one"))
    close(updates(tmp_path / "one"), updates(tmp_path / "uniform"), atol=0)


def test_the_order_of_the_domains_does_not_matter(entries, tmp_path):
    combined(entries, tmp_path / "there", fixed=[0.3, 0.9])
    combined(entries[::-1], tmp_path / "back", fixed=[0.9, 0.3])
    close(updates(tmp_path / "there"), updates(tmp_path / "back"))


def test_recompression_to_the_full_rank_changes_nothing_and_below_it_says_what_is_lost(
    entries, tmp_path
):
    combined(entries, tmp_path / "whole", fixed=[0.6, 0.8])
    full = combined(entries, tmp_path / "full", fixed=[0.6, 0.8], recompress=4)
    assert full.rank == 4 and full.lost == pytest.approx(0, abs=1e-6)
    whole = updates(tmp_path / "whole")
    close(whole, updates(tmp_path / "full"))
    less = combined(entries, tmp_path / "less", fixed=[0.6, 0.8], recompress=2)
    kept = updates(tmp_path / "less")
    gone = sum((whole[key] - kept[key]).square().sum().item() for key in whole)
    all_of_it = sum(value.square().sum().item() for value in whole.values())
    assert less.rank == 2 and less.lost == pytest.approx((gone / all_of_it) ** 0.5, rel=1e-4)
    assert 0 < less.lost < 1


def test_a_routed_folder_holds_every_module_and_a_router(entries, tmp_path):
    made = combined(entries, tmp_path / "routed", kind="routed")
    assert made.modules == ("01-warm", "02-cold") and made.policy == "routed"
    assert made.weights is None and made.rank is None
    for entry in entries:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            copied = tmp_path / "routed" / made.place(entry.name) / name
            assert copied.read_bytes() == (entry.folder / name).read_bytes()
    assert Router.load(tmp_path / "routed").choices == ("01-warm", "02-cold", BASE)


@pytest.mark.slow
def test_learned_weights_come_out_the_same_again(entries, tmp_path):
    first = combined(entries, tmp_path / "a", kind="learned")
    again = combined(entries, tmp_path / "b", kind="learned")
    assert first == again and set(first.weights) == {"01-warm", "02-cold"}
    hashes = [(tmp_path / n / "adapter_model.safetensors").read_bytes() for n in "ab"]
    assert hashes[0] == hashes[1]


def test_a_memory_comes_back_as_the_pairs_of_its_domain(entries, continual_run):
    from fastslow.scoring import Encoder

    pairs = read_memory(entries[1], Encoder(tiny.tokenizer(), max_length=96), make_objective("dpo"))
    assert len(pairs) == 12 and {item.example.domain for item in pairs} == {"cold"}
    assert {item.example.prompt[:6] for item in pairs} == {"Judge "}


def test_what_cannot_be_combined_is_refused_and_nothing_is_left(entries, tmp_path, continual_run):
    from dataclasses import replace

    to = tmp_path / "to"
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    forgetful = replace(entries[1], name="03-none", memory=empty)
    stranger = replace(entries[1], base=[["other", 1, "00"]])
    for given, options, kind, message in [
        (entries, {"fixed": [1.0]}, ConfigError, "got 1 weights for 2 modules"),
        (entries, {}, ConfigError, "got 0 weights for 2 modules"),
        (entries, {"fixed": [1.0, float("nan")]}, ConfigError, "finite number"),
        ([*entries, entries[0]], {"fixed": [1] * 3}, ConfigError, "the same name"),
        (entries, {"kind": "best"}, ConfigError, "'best'; allowed are uniform, fixed"),
        ([entries[0], stranger], {"fixed": [1, 1]}, StateError, "another base"),
        ([entries[0], forgetful], {"kind": "learned"}, DataError,
         "empty.jsonl holds no examples; weights cannot be fitted without a memory"),
        ([entries[0], forgetful], {"kind": "distilled"}, DataError, "holds no examples"),
    ]:  # fmt: skip
        with pytest.raises(kind, match=message):
            combined(given, to, **options)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl"]
    # Weights that need no memory do without one.
    assert combined([entries[0], forgetful], to, kind="uniform").rank == 4
    assert json.loads((to / "combination.json").read_text())["kind"] == "uniform"


def budgeted(entries, to, kind, limit, **options):
    recipe = load_recipe(entries[-1].config, [f"budget.reverse_kl={limit}"])
    with new_folder(to) as draft:
        bases = SharedBase(ProcessGroup())
        return write_combination(
            entries, recipe, draft, bases, kind=kind, progress=unwatched, **options
        )


def test_a_sum_beyond_its_budget_is_scaled_down_as_a_whole(entries, tmp_path):
    made = budgeted(entries, tmp_path / "sum", "fixed", 0.05, fixed=[6.0, 3.0])
    strength = made.budget["strength"]
    assert 0 < strength < 1 and made.budget["reverse_kl"] <= made.budget["limit"] == 0.05
    assert made.weights == {"01-warm": 6.0 * strength, "02-cold": 3.0 * strength}
    full = updates(tmp_path / "sum" / made.budget["full"])
    close({key: value * strength for key, value in full.items()}, updates(tmp_path / "sum"))
    parts = [updates(entry.folder) for entry in entries]
    close({key: 6.0 * parts[0][key] + 3.0 * parts[1][key] for key in full}, full, atol=1e-5)
    assert Combination.read(tmp_path / "sum") == made


def test_routed_modules_are_scaled_down_by_one_strength(entries, tmp_path):
    made = budgeted(entries, tmp_path / "routed", "routed", 0.001)
    strength = made.budget["strength"]
    assert 0 < strength < 1
    for entry in entries:
        own = {key: value * strength for key, value in updates(entry.folder).items()}
        close(own, updates(tmp_path / "routed" / entry.name))
        close(updates(entry.folder), updates(tmp_path / "routed" / "full" / entry.name), atol=0)
    assert Router.load(tmp_path / "routed").choices
    assert budgeted(entries, tmp_path / "free", "routed", 1000).budget["strength"] == 1


def test_without_kept_examples_a_budget_cannot_be_held(entries, tmp_path):
    empty = tmp_path / "memory.jsonl"
    empty.write_text("")
    lacking = [replace(entry, memory=empty) for entry in entries]
    with pytest.raises(DataError, match="or combine without a budget"):
        budgeted(lacking, tmp_path / "sum", "uniform", 1.0)
