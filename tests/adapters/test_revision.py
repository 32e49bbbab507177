"""A base of the Hub at a commit, tag or branch, from a cache that has two of them."""

import json
import shutil

import pytest
import torch
from huggingface_hub import constants

import fastslow as fs
from fastslow.adapters import (
    at_revision,
    load_base,
    load_context_length,
    load_tokenizer,
    model_folder,
)
from fastslow.errors import ConfigError

COMMITS = {"main": "a" * 40, "v1": "b" * 40}


@pytest.fixture
def cached(model_folder, tmp_path, monkeypatch):
    """The id of a base, of whose revisions `v1` has a shorter context."""
    repo = tmp_path / "hub" / "models--owner--tiny"
    (repo / "refs").mkdir(parents=True)
    for name, commit in COMMITS.items():
        (repo / "refs" / name).write_text(commit)
        shutil.copytree(model_folder, repo / "snapshots" / commit)
    path = repo / "snapshots" / COMMITS["v1"] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 99}))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return "owner/tiny"


def test_what_is_named_is_loaded(cached):
    newest = load_context_length(cached)
    assert newest != 99 and load_context_length(f"{cached}@main") == newest
    assert load_context_length(f"{cached}@v1") == 99
    assert load_base(f"{cached}@v1").config.max_position_embeddings == 99
    assert load_base(f"{cached}@v1", device=torch.device("meta")).config.vocab_size
    assert load_tokenizer(f"{cached}@v1")("a").input_ids
    assert model_folder(f"{cached}@v1").name == COMMITS["v1"]


@pytest.mark.parametrize("load", [load_base, load_tokenizer, load_context_length])
def test_a_revision_that_is_not_there_is_an_error_that_names_it(cached, load):
    with pytest.raises(ConfigError, match=r"owner/tiny@v9"):
        load(f"{cached}@v9")


def test_a_folder_may_have_an_at_in_its_name(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "tiny@v1")
    assert at_revision(str(folder)) == (str(folder), None)
    assert load_context_length(str(folder))


def test_a_run_trains_and_exports_on_it(cached, recipe, tmp_path):
    run = fs.train(recipe("train.max_steps=1", "data.eval=null", f"model={cached}@v1"))
    own = json.loads((run.folder / "adapters/fast/adapter_config.json").read_text())
    assert (own["base_model_name_or_path"], own["revision"]) == ("owner/tiny", "v1")
    run.export(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'from_pretrained("owner/tiny", revision="v1")' in card
    assert "vllm serve owner/tiny --revision v1 --enable-lora" in card
    assert "base_model: owner/tiny\n" in card
