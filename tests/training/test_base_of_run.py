"""A run, its bank and its adapters belong to one base, and open from anywhere on that one only."""

import json
import os
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file, save_file

import fastslow
from fastslow import load_recipe, training
from fastslow.adapters import Factors, Modules, load_base
from fastslow.errors import ConfigError, StateError

QUICK = {
    "data": {"train": "train.jsonl", "eval": "eval.jsonl", "max_length": 96},
    "lora": {"rank": 2, "alpha": 4.0},
    "train": {"batch_size": 8, "learning_rate": 1e-2, "max_steps": 2},
    "eval": {"num_prompts": 0},
    "chase": None,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A working folder with a base, rows, and a finished run, all named relative to it."""
    place = tmp_path_factory.mktemp("here")
    tiny.save_model(place / "models" / "base")
    tiny.write_rows(place / "train.jsonl", tiny.rows(16))
    tiny.write_rows(place / "eval.jsonl", tiny.rows(8, seed=9))
    before = Path.cwd()
    os.chdir(place)
    try:
        training.train(load_recipe(QUICK | {"model": "models/base", "output_dir": "runs/first"}))
    finally:
        os.chdir(before)
    return place


@pytest.fixture
def place(made, tmp_path):
    """A copy of it, in which files may be changed; the run names the first one's base."""
    return shutil.copytree(made, tmp_path / "copy")


def other_weights(folder):
    """Put another model with the same shapes into a base's folder."""
    tiny.model(seed=5).save_pretrained(folder)


def rows():
    return tiny.rows(8, seed=3)


def test_a_run_opens_from_every_working_folder(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = fastslow.Run.load(made / "runs" / "first")
    assert run.evaluate(rows()).accuracy >= 0
    assert run.recipe.model == str(made / "models" / "base")
    adapter = made / "runs" / "first" / "adapters" / run.leader
    named = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(made / "models" / "base")
    AutoPeftModelForCausalLM.from_pretrained(adapter)


def test_the_same_recipe_from_another_working_folder_is_the_same_run(made, tmp_path, monkeypatch):
    monkeypatch.chdir(made)
    again = QUICK | {"model": str(made / "models" / "base"), "output_dir": "runs/first"}
    assert training.train(load_recipe(again)).steps == 2
    config = made / "runs" / "first" / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace(str(made / "models" / "base"), "models/base"))
    assert training.train(load_recipe(again)).steps == 2  # As runs were written before.
    config.write_text(text)


def test_a_run_that_moved_with_its_base_finds_it(place, made, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    away = made.rename(made.with_name("away"))
    try:
        run = fastslow.Run.load(place / "runs" / "first")
        assert Path(run.recipe.model).resolve() == place / "models" / "base"
        assert run.evaluate(rows()).accuracy >= 0
        shutil.rmtree(place / "models")
        with pytest.raises(StateError, match="was .*/models/base, which is not there"):
            fastslow.Run.load(place / "runs" / "first").evaluate(rows())
    finally:
        away.rename(made)


@pytest.mark.parametrize(
    "use",
    [
        lambda run, to: fastslow.Run.load(run).evaluate(rows()),
        lambda run, to: fastslow.Run.load(run).generate(["Hello"]),
        lambda run, to: fastslow.Run.load(run).export(to),
        lambda run, to: fastslow.Run.load(run).merge_and_unload(to),
    ],
    ids=["evaluate", "generate", "export", "merge"],
)
@pytest.mark.parametrize("change", ["weights", "template"])
def test_another_base_under_a_finished_run_is_refused(made, tmp_path, use, change):
    base = made / "models" / "base"
    kept = shutil.copytree(base, tmp_path / "kept")
    try:
        if change == "weights":
            other_weights(base)
            said = "model.safetensors"
        else:
            (base / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
            said = "chat_template.jinja"
        with pytest.raises(StateError, match=rf"not the one it was trained on.*{said}"):
            use(made / "runs" / "first", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    finally:
        shutil.rmtree(base)
        shutil.copytree(kept, base)


def test_an_adapter_on_another_base_is_refused_wherever_it_lies(made, tmp_path):
    exported = tmp_path / "exported"
    fastslow.Run.load(made / "runs" / "first").export(exported)
    base, other = made / "models" / "base", tiny.save_model(tmp_path / "other", seed=5)
    Modules.load(load_base(str(base)), {"a": exported}, trainable=())
    with pytest.raises(ConfigError, match=r"trained on another base: the weights of .*other"):
        Modules.load(load_base(str(other)), {"a": exported}, trainable=())
    start = {
        "model": str(other),
        "output_dir": str(tmp_path / "run"),
        "lora": {"start_from": str(exported)},
        "data": QUICK["data"] | {"train": str(made / "train.jsonl"), "eval": None},
    }
    with pytest.raises(ConfigError, match="trained on another base"):
        training.train(load_recipe(QUICK | start))
    assert not (tmp_path / "run" / "checkpoints").exists()
    two = Factors.read(exported).write(tmp_path / "same") or Factors.read(tmp_path / "same")
    assert two.base_weights == Factors.read(exported).base_weights is not None


def test_the_same_weights_in_other_files_are_the_same_base(made, tmp_path):
    exported = tmp_path / "exported"
    fastslow.Run.load(made / "runs" / "first").export(exported)
    base = load_base(str(made / "models" / "base"))
    base.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    Modules.load(load_base(str(tmp_path / "parts")), {"a": exported}, trainable=())
    file = (
        tmp_path
        / "parts"
        / "model-00001-of-0000{}.safetensors".format(
            len(list((tmp_path / "parts").glob("*.safetensors")))
        )
    )
    tensors = load_file(file)
    key = min(tensors)
    tensors[key] = tensors[key].clone()
    tensors[key].flatten()[0] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="trained on another base"):
        Modules.load(load_base(str(tmp_path / "parts")), {"a": exported}, trainable=())


def test_a_model_in_memory_is_taken_as_it_is(made, tmp_path):
    exported = tmp_path / "exported"
    fastslow.Run.load(made / "runs" / "first").export(exported)
    base = tiny.model()
    with torch.no_grad():
        base.lm_head.weight.add_(0.1)
    modules = Modules.load(base, {"a": exported}, trainable=())
    modules.save("a", tmp_path / "again")
    assert Factors.read(tmp_path / "again").base_weights is None
