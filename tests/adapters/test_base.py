"""A base is the model that its folder names, whole, or one error says what is wrong."""

import json
import shutil
from contextlib import closing

import pytest
import tiny
import torch
from fake_hub import FakeHub
from huggingface_hub import constants
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from fastslow.adapters import (
    load_base,
    load_context_length,
    load_end_ids,
    load_reward_model,
    load_tokenizer,
)
from fastslow.errors import ConfigError

META = torch.device("meta")


def with_tensors(model_folder, to, change):
    """A copy of the model with other weights."""
    shutil.copytree(model_folder, to)
    file = to / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return to


def with_settings(model_folder, to, name="config.json", **changes):
    """A copy of the model with other settings in one of its files."""
    shutil.copytree(model_folder, to)
    settings = json.loads((to / name).read_text()) | changes
    (to / name).write_text(json.dumps(settings))
    return to


def refusal(folder, load=load_base, **options):
    """What is said of a folder, in one error that names it."""
    with pytest.raises(ConfigError) as caught:
        load(str(folder), **options)
    (said,) = caught.value.problems
    assert str(folder) in said and len(said) < 1200 and "\n" not in said
    return said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda own: {f"_orig_mod.{key}": value for key, value in own.items()},
            "compiled",
        ),
        (
            lambda own: {k: v for k, v in own.items() if "layers.1.mlp" not in k},
            r"lacks 3 .*model\.layers\.1\.mlp\.down_proj\.weight",
        ),
        (
            lambda own: own | {"model.layers.0.self_attn.q_proj.bias": torch.ones(32)},
            r"1 that .* no place for: model\.layers\.0\.self_attn\.q_proj\.bias",
        ),
        (
            lambda own: own | {"model.norm.weight": torch.ones(8)},
            r"another shape.*model\.norm\.weight \(8\).*\(32\)",
        ),
    ],
)
def test_weights_that_are_missing_strange_or_of_another_shape_are_named(
    model_folder, tmp_path, change, said
):
    folder = with_tensors(model_folder, tmp_path / "changed", change)
    for device in (None, META):  # No weight needs to be read for it.
        with pytest.raises(ConfigError, match=said):
            load_base(str(folder), device=device)


def test_what_a_model_ties_or_ignores_may_be_missing_or_left_over(tmp_path):
    folder = tiny.save_model(tmp_path / "tied", tie_word_embeddings=True)
    kept = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in kept
    kept |= {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    base = load_base(str(folder))
    assert base.lm_head.weight is base.model.embed_tokens.weight


@pytest.mark.parametrize("architecture", ["gpt2", "opt", "gemma2", "cohere", "phi3"])
def test_what_transformers_saves_is_whole(tmp_path, architecture):
    tiny.model(architecture).save_pretrained(tmp_path)
    load_base(str(tmp_path))
    load_base(str(tmp_path), device=META)


@pytest.mark.parametrize(
    ("file", "changes", "cause"),
    [
        ("config.json", {"hidden_act": "swiglu9"}, "swiglu9"),
        ("config.json", {"model_type": "later"}, "later"),
        (
            "config.json",
            {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}},
            "gptq|optimum",
        ),
        ("config.json", {"rope_parameters": {"rope_type": "su", "rope_theta": 1e4}}, "su"),
        ("config.json", {"num_hidden_layers": "two"}, "num_hidden_layers"),
    ],
)
def test_what_the_libraries_raise_at_a_model_is_one_error(
    model_folder, tmp_path, file, changes, cause
):
    folder = with_settings(model_folder, tmp_path / "odd", file, **changes)
    said = refusal(folder)
    assert any(word in said for word in cause.split("|"))


def test_damaged_weights_are_one_error(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "cut")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refusal(folder)


def test_a_tokenizer_of_a_later_version_is_one_error(model_folder, tmp_path):
    own = json.loads((model_folder / "tokenizer.json").read_text())["model"]
    newer = {"model": own | {"type": "BPE2"}}
    folder = with_settings(model_folder, tmp_path / "newer", "tokenizer.json", **newer)
    assert "tokenizer" in refusal(folder, load_tokenizer)


def test_what_a_config_cannot_mean_is_one_error_before_any_weight(model_folder, tmp_path):
    folder = with_settings(model_folder, tmp_path / "odd", model_type="later")
    assert "later" in refusal(folder, load_context_length)


def test_an_adapter_beside_the_base_is_refused_with_what_to_do(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "both")
    adapter = get_peft_model(tiny.model(), LoraConfig(target_modules=["q_proj"]))
    adapter.save_pretrained(folder)
    for load in (load_base, load_tokenizer, load_context_length):
        assert "lora.start_from" in refusal(folder, load)


def test_an_adapter_is_no_model(model_folder, tmp_path):
    adapter = get_peft_model(tiny.model(), LoraConfig(target_modules=["q_proj"]))
    adapter.peft_config["default"].base_model_name_or_path = str(model_folder)
    adapter.save_pretrained(tmp_path / "adapter")
    said = refusal(tmp_path / "adapter")
    assert "set model to its base" in said and "lora.start_from" in said


@pytest.mark.parametrize("load", [load_base, load_tokenizer, load_context_length])
def test_what_is_no_model_folder_is_told_so(model_folder, tmp_path, load):
    file = tmp_path / "pairs.jsonl"
    file.write_text("{}")
    assert "is a file; give the model's folder" in refusal(file, load)
    folder = shutil.copytree(model_folder, tmp_path / "bare")
    (folder / "config.json").unlink()
    assert refusal(folder, load) == f"model: no config.json in {folder}, so it is not a model"


def test_a_path_like_an_id_of_the_hub_is_neither_here_nor_there(monkeypatch):
    # Nothing listens on the port, which is known after one request without retries.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for load in (load_base, load_tokenizer, load_context_length):
        said = refusal("models/base-6m", load)
        assert said.startswith("model: models/base-6m: no such folder here, and the Hub cannot be")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "not in the Hub's cache, and HF_HUB_OFFLINE is set" in refusal("models/base-6m")


@pytest.mark.parametrize("status", [401, 404])
def test_a_model_that_the_hub_does_not_have_is_told_so(monkeypatch, status):
    with closing(FakeHub()) as hub:
        hub.refuse["/api/models/me/none"] = status
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        assert "no such folder here, and the Hub shows no such model" in refusal("me/none")
        assert len(hub.requests) == 1


def test_ends_of_turns_are_those_of_the_generation_settings_or_else_of_the_model(
    model_folder, tmp_path
):
    folder = with_settings(model_folder, tmp_path / "ends", eos_token_id=[2, 7])
    settings = folder / "generation_config.json"
    assert load_end_ids(str(folder)) == [2]
    settings.write_text("{}")
    assert load_end_ids(str(folder)) == [2, 7]
    settings.unlink()
    assert load_end_ids(str(folder)) == [2, 7]
    settings.write_text("{")
    assert "generation_config.json" in refusal(folder, load_end_ids)


def test_an_end_that_only_the_class_names_is_nobodys(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "plain")
    (folder / "generation_config.json").unlink()
    settings = json.loads((folder / "config.json").read_text())
    del settings["eos_token_id"]
    (folder / "config.json").write_text(json.dumps(settings))
    assert load_end_ids(str(folder)) == []


def test_a_reward_model_without_its_head_is_refused(model_folder, tmp_path):
    assert "score.weight" in refusal(model_folder, load_reward_model)
    adapter = get_peft_model(tiny.model(), LoraConfig(target_modules=["q_proj"]))
    adapter.save_pretrained(tmp_path)
    said = refusal(tmp_path, load_reward_model, base=str(model_folder))
    assert "head" in said


def test_a_reward_model_whose_adapter_is_of_another_model_is_refused(model_folder, tmp_path):
    from transformers import AutoModelForSequenceClassification

    classifier = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=1)
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj"])
    get_peft_model(classifier, config).save_pretrained(tmp_path)
    load_reward_model(str(tmp_path), base=str(model_folder))
    file = tmp_path / "adapter_model.safetensors"
    kept = {k: v for k, v in load_file(file).items() if "layers.1" not in k}
    save_file(kept, file, metadata={"format": "pt"})
    assert "layers.1" in refusal(tmp_path, load_reward_model, base=str(model_folder))
