"""The modules, and every trap of switching them that has cost others a run."""

import json

import fork_server
import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from fastslow.adapters import BASE, Factors, Modules, load_base, load_tokenizer
from fastslow.errors import ConfigError

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def attach(names=("fast", "slow"), **options):
    settings = {"rank": 4, "alpha": 8.0, "seed": 0} | options
    return Modules.attach(tiny.model(), names, **settings)


def stir(modules, name, seed=1):
    """Give a module weights that change the model's answers."""
    draw = torch.Generator().manual_seed(seed)
    for parameter in modules.parameters(name).values():
        parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=draw))


def logits(modules, name, **options):
    with modules.using(name, **options):
        return modules.causal_lm(IDS).logits


def trains(modules):
    return {key for key, p in modules.model.named_parameters() if p.requires_grad}


def owned(modules, *names):
    return {key for name in names for key in modules.parameters(name)}


def test_fresh_modules_are_the_base_and_each_other():
    modules = attach()
    base = tiny.model()(IDS).logits
    for name in ("fast", "slow", BASE):
        assert torch.equal(logits(modules, name), base)
    for a, b in zip(
        modules.tensors("fast").values(), modules.tensors("slow").values(), strict=True
    ):
        assert torch.equal(a, b)


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone():
    base = tiny.model()
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = Modules.attach(base, ("fast", "slow"), rank=4, alpha=8.0, seed=7).tensors("fast")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(456)
    again, other = attach(seed=7).tensors("fast"), attach(seed=8).tensors("fast")
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_trap_scoring_one_module_after_another_leaves_both_a_gradient():
    modules = attach()
    loss = logits(modules, "fast").sum() + logits(modules, "slow").sum()
    loss.backward()
    for name in ("fast", "slow"):
        gradients = [p.grad for p in modules.parameters(name).values()]
        assert all(g is not None for g in gradients) and any(g.any() for g in gradients)
    assert not any(
        p.grad is not None
        for key, p in modules.model.named_parameters()
        if key not in owned(modules, "fast", "slow")
    )


@pytest.mark.parametrize("name", ["0", "mlp", "layers", "weight", "lora_A", "default"])
def test_a_module_named_as_a_part_of_the_model_takes_no_tensors_of_others(tmp_path, name):
    modules = attach(("fast",))
    own, before = owned(modules, "fast"), trains(modules)
    stir(modules, "fast")
    modules.save("fast", tmp_path)
    modules.add(name, tmp_path)
    assert owned(modules, "fast") == own and not own & owned(modules, name)
    assert len(owned(modules, name)) == len(own) and trains(modules) == before
    assert torch.equal(logits(modules, name), logits(modules, "fast"))
    modules.remove(name)
    assert trains(modules) == before


def test_the_trap_is_really_there_without_modules():
    model = get_peft_model(tiny.model(), LoraConfig(r=4, target_modules="all-linear"), "fast")
    model.add_adapter("slow", LoraConfig(r=4, target_modules="all-linear"))
    model.set_adapter("fast")
    loss = model(IDS).logits.sum()
    model.set_adapter("slow")
    (loss + model(IDS).logits.sum()).backward()
    fast = [p.grad for key, p in model.named_parameters() if ".fast." in key]
    assert all(gradient is None for gradient in fast)


def test_trap_a_reference_pass_does_not_unfreeze_anything(tmp_path):
    stirred = attach()
    stir(stirred, "fast")
    stirred.save("fast", tmp_path / "a")
    folders = dict.fromkeys(("fast", "slow", "previous"), tmp_path / "a")
    modules = Modules.load(tiny.model(), folders, trainable=("fast", "slow"))
    learning = owned(modules, "fast", "slow")
    assert trains(modules) == learning
    for name in (BASE, "previous", "fast", "slow", BASE):
        with modules.using(name):
            assert trains(modules) == learning
        assert trains(modules) == learning
    assert logits(modules, "fast").requires_grad and not logits(modules, "previous").requires_grad


def test_an_error_inside_leaves_the_base_active():
    modules = attach()
    stir(modules, "fast")
    base = logits(modules, BASE)
    with pytest.raises(RuntimeError, match="stop"), modules.using("fast"):
        raise RuntimeError("stop")
    assert torch.equal(modules.causal_lm(IDS).logits, base)


def test_trap_dropout_is_on_for_the_learning_module_only():
    modules = attach(dropout=0.5)
    stir(modules, "fast")
    stir(modules, "slow")
    for name in ("fast", "slow", BASE):
        assert torch.equal(logits(modules, name), logits(modules, name))
    assert not torch.equal(logits(modules, "fast", learning=True), logits(modules, "fast"))
    assert torch.equal(logits(modules, "fast"), logits(modules, "fast"))
    assert not modules.causal_lm.training


def test_modules_do_not_touch_each_other():
    modules = attach()
    stir(modules, "fast", seed=1)
    slow, base = logits(modules, "slow"), logits(modules, BASE)
    assert torch.equal(slow, base) and not torch.equal(logits(modules, "fast"), base)
    modules.copy("fast", "slow")
    assert torch.equal(logits(modules, "slow"), logits(modules, "fast"))
    stir(modules, "fast", seed=2)
    assert not torch.equal(logits(modules, "slow"), logits(modules, "fast"))


def on_top(tmp_path, **options):
    """Modules on top of a start, whose own policy is `start`; gives its folder too."""
    lower = attach(names=("lower",), rank=2, alpha=3.0)
    stir(lower, "lower", seed=7)
    lower.save("lower", tmp_path / "start")
    return attach(start=("start", tmp_path / "start"), **options), tmp_path / "start"


def test_what_is_on_top_of_a_start_begins_there_and_is_the_sum_of_both(tmp_path):
    modules, folder = on_top(tmp_path)
    alone = Modules.load(tiny.model(), {"lower": folder}, trainable=())
    started = logits(alone, "lower")
    assert torch.equal(logits(modules, "start"), started)
    torch.testing.assert_close(logits(modules, "fast"), started)
    assert torch.equal(logits(modules, BASE), tiny.model()(IDS).logits)
    stir(modules, "fast")
    modules.save("fast", tmp_path / "sum")
    whole = Modules.load(tiny.model(), {"sum": tmp_path / "sum"}, trainable=())
    torch.testing.assert_close(logits(whole, "sum"), logits(modules, "fast"))
    assert not torch.allclose(logits(modules, "fast"), started, atol=1e-4)
    config = json.loads((tmp_path / "sum" / "adapter_config.json").read_text())
    assert config["r"] == 2 + 4
    # Half of the way is half of its own update; the start stays.
    full = {key: tensor.clone() for key, tensor in modules.tensors("fast").items()}
    modules.put_between("fast", full, 0.0, start="start")
    torch.testing.assert_close(logits(modules, "fast"), started)


@pytest.mark.parametrize("rank", [2, 4])
def test_a_module_becomes_factors_of_another_scaling_and_no_more_ranks(tmp_path, rank):
    other = attach(("fast",), rank=rank, alpha=3.0)
    stir(other, "fast")
    other.save("fast", tmp_path / "other")
    modules = attach()
    stir(modules, "fast", seed=2)
    modules.load_factors("fast", Factors.read(tmp_path / "other"))
    torch.testing.assert_close(logits(modules, "fast"), logits(other, "fast"))
    assert torch.equal(logits(modules, "slow"), logits(modules, BASE))
    with pytest.raises(ConfigError, match="rank 4 is larger than the module's, 3"):
        modules.save("fast", tmp_path / "wide")
        attach(("fast",), rank=3).load_factors("fast", Factors.read(tmp_path / "wide"))


def test_a_start_stays_as_it_is_and_takes_no_part_in_dropout(tmp_path):
    modules, folder = on_top(tmp_path, dropout=0.5)
    assert trains(modules) == owned(modules, "fast", "slow")
    # Nothing of a fresh module is there to be dropped, and its start is whole.
    torch.testing.assert_close(
        logits(modules, "fast", learning=True), logits(modules, "start"), atol=1e-6, rtol=1e-5
    )
    stir(modules, "fast")
    logits(modules, "fast", learning=True).square().sum().backward()
    assert all(p.grad is not None for p in modules.parameters("fast").values())
    assert all(p.grad is None for p in modules.parameters("start").values())


@pytest.mark.processes
def test_saved_folders_load_with_peft_alone_and_score_the_same(tmp_path):
    modules = attach()
    stir(modules, "fast")
    tiny.model().save_pretrained(tmp_path / "base")
    modules.save("fast", tmp_path / "fast")
    expected = logits(modules, "fast")
    script = f"""
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained({str(tmp_path / "base")!r})
model = PeftModel.from_pretrained(base, {str(tmp_path / "fast")!r})
torch.save(model(torch.tensor({IDS.tolist()})).logits, {str(tmp_path / "out.pt")!r})
assert "fastslow" not in sys.modules
"""
    done = fork_server.run("-c", script, bare=True)
    assert done.returncode == 0, done.stderr
    got = torch.load(tmp_path / "out.pt", weights_only=True)
    torch.testing.assert_close(got, expected.detach(), atol=1e-6, rtol=0)
    names = {key for key in load_file(tmp_path / "fast" / "adapter_model.safetensors")}
    assert names and not any("fast" in name for name in names)


def test_merging_folds_the_module_in():
    modules = attach()
    stir(modules, "fast")
    expected = logits(modules, "fast").detach()
    merged = modules.merge("fast")
    torch.testing.assert_close(merged(IDS).logits, expected, atol=1e-5, rtol=1e-5)
    assert not [key for key, _ in merged.named_parameters() if "lora" in key]


def test_bfloat16_bases_carry_float32_modules():
    modules = Modules.attach(tiny.model().bfloat16(), ("policy",), rank=4, alpha=8.0)
    assert {p.dtype for p in modules.parameters("policy").values()} == {torch.float32}
    assert modules.causal_lm.model.embed_tokens.weight.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits(modules, "policy").float().sum().backward()
    assert any(p.grad.any() for p in modules.parameters("policy").values())


def test_four_bit_without_bitsandbytes_says_what_is_missing(model_folder, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs bitsandbytes"):
        load_base(str(model_folder), precision="bfloat16", load_in_4bit=True)


@pytest.mark.parametrize("targets", ["no_such_layer", ["q_proj", "k_proj"]])
def test_targets(targets):
    if targets == "no_such_layer":
        with pytest.raises(ConfigError, match="lora.target_modules"):
            attach(targets=targets)
        with pytest.raises(
            ConfigError,
            match="did you mean 'q_proj'.; its linear layers are q_proj, k_proj, v_proj",
        ) as caught:
            attach(targets=["v_proj", "q_prj"])  # PEFT would train v_proj alone.
        assert "lm_head" not in str(caught.value)
    else:
        modules = attach(targets=targets)
        assert {key.split(".lora_")[0].split(".")[-1] for key in owned(modules, "fast")} == {
            "q_proj",
            "k_proj",
        }


def test_the_output_layer_cannot_carry_a_module():
    with pytest.raises(ConfigError, match="the output layer cannot have a module"):
        attach(targets=["q_proj", "lm_head"])


def test_an_adapter_of_another_base_is_refused_not_ignored(tmp_path):
    attach().save("fast", tmp_path / "a")
    weights = tmp_path / "a" / "adapter_model.safetensors"
    renamed = {f"other.{key}": value for key, value in load_file(weights).items()}
    save_file(renamed, weights)
    with pytest.raises(ConfigError, match="was made for another base model"):
        Modules.load(tiny.model(), {"a": tmp_path / "a"}, trainable=())


def test_foreign_and_damaged_adapter_folders_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no adapter"):
        Modules.load(tiny.model(), {"a": tmp_path}, trainable=())
    attach().save("fast", tmp_path / "good")
    config = tmp_path / "good" / "adapter_config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"peft_type": "IA3"}))
    with pytest.raises(ConfigError, match="only LORA"):
        Modules.load(tiny.model(), {"a": tmp_path / "good"}, trainable=())
    config.write_text(json.dumps(settings | {"modules_to_save": ["lm_head"]}))
    with pytest.raises(ConfigError, match="replaces whole layers"):
        Modules.load(tiny.model(), {"a": tmp_path / "good"}, trainable=())
    config.write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="does not fit the base model"):
        Modules.load(tiny.model(hidden_size=64), {"a": tmp_path / "good"}, trainable=())
    weights = tmp_path / "good" / "adapter_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ConfigError, match="pickled weights are refused"):
        Modules.load(tiny.model(), {"a": tmp_path / "good"}, trainable=())


def test_models_that_cannot_be_loaded_say_why(tmp_path, model_folder):
    with pytest.raises(ConfigError, match="does not exist"):
        load_base(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no config.json"):
        load_base(str(tmp_path))
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text((model_folder / "config.json").read_text())
    torch.save(tiny.model().state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_base(str(pickled))
    with pytest.raises(ConfigError, match="the tokenizer in"):
        load_tokenizer(str(pickled))
