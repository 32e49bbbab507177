"""The model card of an exported run: what it says is so, and what it tells to do works."""

import re
import shutil

import pytest
import tiny
import torch
import yaml

import fastslow as fs
from fastslow.config import load_recipe
from fastslow.training.export.card.card import Exported, model_card
from fastslow.training.export.card.front_matter import dataset_id, hub_id, licence_of
from fastslow.training.export.card.usage import BASE
from fastslow.training.export.export import _kl


@pytest.fixture(scope="module")
def run(model_folder, tmp_path_factory):
    """A finished run on rows of which one cannot be used."""
    folder = tmp_path_factory.mktemp("card")
    shutil.copytree(model_folder, folder / "base")
    (folder / "base" / "README.md").write_text("---\nlicense: mit\n---\n# Base\n")
    return fs.train(
        {
            "model": str(folder / "base"),
            "output_dir": str(folder / "run"),
            "data": {"max_length": 96, "max_bad_fraction": 0.5},
            "lora": {"rank": 2, "alpha": 4.0},
            "train": {"batch_size": 8, "learning_rate": 1e-2},
            "eval": {"num_prompts": 2, "max_new_tokens": 4},
        },
        train_dataset=[*tiny.domain_rows("warm", 32), {"prompt": "secret row"}],
        eval_dataset=tiny.domain_rows("warm", 8, seed=50),
    )


def card_of(folder):
    """The head of a card as values, and its body."""
    _, head, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), body


def blocks(body):
    return [text.replace(BASE, "base") for text in re.findall(r"```python\n(.*?)```", body, re.S)]


def test_a_card_has_what_the_run_did_and_measured(run, tmp_path):
    run.export(tmp_path / "out")
    head, body = card_of(tmp_path / "out")
    assert head["library_name"] == "peft" and head["license"] == "mit"
    assert "base_model" not in head and "datasets" not in head  # Neither is on the Hub.
    assert {"fastslow", "lora"} <= set(head["tags"])
    final = run.summary.eval["final"]
    assert final["pairs"] == 8 and f"| {final['accuracy']:.3f} (" in body
    for told in ("| `read` | 33 |", "| rows learned | 32 |", "| `invalid` | 1 |",
                 "`train.jsonl`", "| `lora.rank` | `2` |",
                 "| objective | `dpo` |", "--max-lora-rank 8 "):  # fmt: skip
        assert told in body, told
    # A card is made public: no row, no place on this machine.
    assert "secret" not in body and str(tmp_path.parent) not in body
    assert str(run.folder.parent) not in body


def test_a_card_names_no_file_that_a_run_learned_beside(run, tmp_path):
    run.export(tmp_path / "out")
    beside = str(tmp_path / "private")
    recipe = load_recipe(
        run.folder / "config.yaml",
        [f"lora={{start_from: {beside}}}", f"replay.memory=[{beside}]", "anchor.strength=2",
         f"anchor.fisher={beside}"],
    )  # fmt: skip
    card = model_card(Exported("run", "slow", recipe, run.summary), tmp_path / "out")
    assert "| `anchor.strength` | `2.0` |" in card and "`replay.share`" in card
    assert beside not in card


def test_rounding_makes_no_kl_negative():
    log_probs = torch.full((1, 1, 4), 0.25).log()
    assert _kl(log_probs, log_probs + 1e-6) == 0


def test_the_code_of_a_card_loads_the_adapter_as_it_was_trained(run, tmp_path, monkeypatch):
    run.export(tmp_path / "out")
    shutil.copytree(run.folder.parent / "base", tmp_path / "out" / "base")
    monkeypatch.chdir(tmp_path / "out")
    _, body = card_of(tmp_path / "out")
    (wanted,) = run.score(tiny.domain_rows("warm", 1, seed=50))
    row = tiny.domain_rows("warm", 1, seed=50)[0]
    with_peft, with_transformers = blocks(body)
    for block in (with_peft, with_transformers):
        names = {}
        exec(block, names)
        tokenizer, model = names["tokenizer"], names["model"].eval()
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": row["prompt"]}], add_generation_prompt=True, tokenize=False
        )
        before = tokenizer(prompt, add_special_tokens=False).input_ids
        after = tokenizer(row["chosen"], add_special_tokens=False).input_ids + [
            tokenizer.eos_token_id
        ]
        with torch.no_grad():
            logps = model(torch.tensor([before + after])).logits[0].float().log_softmax(-1)
        own = sum(logps[len(before) + i - 1, token].item() for i, token in enumerate(after))
        assert own == pytest.approx(wanted.logps[0], abs=1e-3)


def test_a_merged_model_has_a_card_of_its_own(run, tmp_path, monkeypatch):
    run.merge_and_unload(tmp_path / "out")
    head, body = card_of(tmp_path / "out")
    assert head["library_name"] == "transformers" and "lora" not in head["tags"]
    assert "nats per token" in body and "vllm serve ." in body
    monkeypatch.chdir(tmp_path / "out")
    (block,) = blocks(body)
    exec(block, {})


def test_a_run_over_domains_has_a_row_for_each(continual_run, tmp_path):
    folder, summary = continual_run
    fs.Run.load(folder).export(tmp_path / "out")
    _, body = card_of(tmp_path / "out")
    for name, found in zip(summary.measured, summary.after[-1], strict=True):
        assert f"| `{name}` | {found['pairs']} |" in body
        assert f"{found['accuracy']:.3f} (" in body
    assert "`warm.jsonl`" in body and "`cold.jsonl`" in body


def test_ids_of_the_hub_are_told_from_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "here").touch()
    assert hub_id("owner/model") == "owner/model" and hub_id("gpt2") == "gpt2"
    for name in ("owner/here", "/a/b", "a/b/c", "../b", "a b", "a\n- b", "ü/b", ""):
        assert hub_id(name) is None, name
    assert dataset_id("trl-lib/set:test") == "trl-lib/set"
    for name in ("owner/here", "rows.jsonl", "feedback:a/b", "-", "a/*.jsonl"):
        assert dataset_id(name) is None, name


@pytest.mark.parametrize(
    "text, licence",
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# A", {"license": "apache-2.0"}),
        ("---\nlicense: other\nlicense_name: own\n---\n", {"license": "other",
                                                            "license_name": "own"}),
        ("---\nlicense: [a, b]\n---\n", {}),
        ('---\nlicense: "mit\\n- b"\n---\n', {}),
        ("---\n- a\n---\n", {}),
        ("---\nlicense: {\n---\n", {}),
        ("license: mit\n", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_the_licence_is_the_one_that_the_bases_card_names(tmp_path, text, licence):
    (tmp_path / "README.md").write_text(text)
    assert licence_of(str(tmp_path)) == licence


def test_a_base_without_a_card_has_no_licence(tmp_path):
    assert licence_of(str(tmp_path)) == licence_of("no/such-model") == {}
