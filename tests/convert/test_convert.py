"""YAML of TRL and LLaMA-Factory as recipes: nothing is lost in silence."""

import dataclasses
import json

import pytest
import yaml
from typer.testing import CliRunner

from fastslow.cli.main import app
from fastslow.config import load_recipe
from fastslow.convert import convert
from fastslow.errors import ConfigError
from fastslow.objectives import objective_problems

TRL = {
    "model_name_or_path": "owner/base", "dataset_name": "owner/pairs", "use_peft": True,
    "lora_target_modules": ["all-linear"], "num_train_epochs": 1,
}  # fmt: skip
FACTORY = {
    "model_name_or_path": "owner/base", "stage": "dpo", "finetuning_type": "lora",
    "dataset": "mine", "template": "llama3",
}  # fmt: skip


@pytest.fixture
def made(tmp_path):
    """Converts settings; returns the converted and the recipe that it is read as."""

    def make(base, *settings, dropped=(), processes=1, **more):
        path = tmp_path / "theirs.yaml"
        path.write_text(yaml.safe_dump(base | more))
        found = convert(path, settings=settings, dropped=dropped, processes=processes)
        text = tmp_path / "recipe.yaml"
        text.write_text(found.text())
        return found, load_recipe(text, checks=[objective_problems])

    return make


def test_a_yaml_of_trl_has_the_same_settings_here(made):
    found, recipe = made(
        TRL, "train.warmup_steps=7", processes=4, per_device_train_batch_size=2,
        gradient_accumulation_steps=8, learning_rate=5e-6, lora_r=32, lora_alpha=16, beta=0.3,
        warmup_ratio=0.1, eval_strategy="steps", eval_steps=50, dataset_config="hard",
        loss_type="ipo", lr_scheduler_type="cosine", max_grad_norm=0.5, report_to="wandb",
        seed=3, save_steps=20, output_dir="out", dtype="bfloat16",
    )  # fmt: skip
    train, lora = recipe.train, recipe.lora
    assert (train.batch_size, train.micro_batch_size) == (64, 2)
    assert (train.learning_rate, train.schedule, train.warmup_steps) == (5e-6, "cosine", 7)
    assert (train.max_grad_norm, train.precision) == (0.5, "bfloat16")
    assert (lora.rank, lora.alpha, lora.target_modules) == (32, 16.0, "all-linear")
    assert (recipe.objective.name, recipe.objective.settings) == ("ipo", {"beta": 0.3})
    assert recipe.data.train == "owner/pairs:hard/train"
    assert recipe.data.eval == "owner/pairs:hard/test"
    assert (recipe.eval.every, recipe.checkpoint.every, recipe.seed) == (50, 20, 3)
    assert recipe.trackers == ("wandb",) and recipe.output_dir == "out"
    # As TRL trains: one adapter, which is handed over as it was learned.
    assert recipe.chase is None and recipe.budget is None
    assert found.idle["warmup_ratio"] == "train.warmup_steps is given"


def test_defaults_of_trl_are_written_out(made):
    _, recipe = made(TRL)
    assert (recipe.train.learning_rate, recipe.train.batch_size) == (1e-6, 8)
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout) == (16, 32.0, 0.0)
    assert (recipe.objective.name, recipe.objective.settings) == ("dpo", {"beta": 0.1})
    assert (recipe.seed, recipe.train.precision, recipe.data.eval) == (42, "mixed", None)


def test_what_is_off_as_the_other_library_has_no_such_thing_is_told(made):
    for base, kind in ((TRL, "trl"), (FACTORY, "llama-factory")):
        text = convert_text(made, base)
        assert f"# chase: null as {kind} has no chasing of fast and slow adapters; " in text
        assert f"# budget: null as {kind} has no limit" in text
    assert "# budget: null" in convert_text(made, TRL, "chase={}")
    assert "# chase: null" not in convert_text(made, TRL, "chase={}")


def convert_text(made, base, *settings):
    if base is FACTORY:
        settings = ("data.train=pairs.jsonl", *settings)
    return made(base, *settings)[0].text()


def test_keys_that_were_removed_from_trl_are_dropped_with_a_comment(made):
    found, recipe = made(TRL, max_prompt_length=512, max_length=2048, label_pad_token_id=-100)
    assert recipe.data.max_length == 2048
    assert "#   max_prompt_length: removed from TRL; data.max_length limits" in found.text()
    assert "removed from TRL" in found.idle["label_pad_token_id"]
    assert made(TRL, rpo_alpha=None)[0].idle["rpo_alpha"] == "is off"
    with pytest.raises(ConfigError, match=r"rpo_alpha: removed from TRL; here it is objective.nll"):
        made(TRL, rpo_alpha=1.0)


def test_a_null_is_what_it_is_there_and_no_default(made):
    assert made(TRL, max_grad_norm=None)[1].train.max_grad_norm is None
    assert made(TRL, lora_dropout=0.1, disable_dropout=None)[1].lora.dropout == 0.1
    with pytest.raises(ConfigError, match=r"max_length: nothing is cut off there; give data.max_"):
        made(TRL, max_length=None)
    assert made(TRL, "data.max_length=4096", max_length=None)[1].data.max_length == 4096
    found, recipe = made(TRL, beta=None)
    assert recipe.objective.settings == {"beta": 0.1}
    assert found.translated["beta"] == "objective.beta; null is read as the default, 0.1"


def test_a_base_in_4_bit_computes_in_bfloat16(made):
    _, recipe = made(TRL, load_in_4bit=True)
    assert recipe.load_in_4bit and recipe.train.precision == "bfloat16"


def test_dropout_of_adapters_is_what_trl_leaves_of_it(made):
    found, recipe = made(TRL, lora_dropout=0.1)
    assert recipe.lora.dropout == 0 and "disable_dropout" in found.idle["lora_dropout"]
    assert made(TRL, lora_dropout=0.1, disable_dropout=False)[1].lora.dropout == 0.1


def test_a_yaml_of_llama_factory_has_the_same_settings_here(made, tmp_path):
    (tmp_path / "data").mkdir()
    table = {"mine": {"file_name": "mine.json", "ranking": True,
                      "columns": {"prompt": "question", "chosen": "chosen"}},
             "other": {"hf_hub_url": "owner/pairs", "subset": "hard", "split": "test"}}  # fmt: skip
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(table))
    _, recipe = made(
        FACTORY, dataset="mine, other", eval_dataset="other", pref_loss="simpo", pref_beta=2.0,
        simpo_gamma=1.0, lora_rank=4, lora_target="q_proj,v_proj", bf16=True, max_steps=50,
        warmup_ratio=0.1, quantization_bit=4,
    )  # fmt: skip
    assert recipe.data.train == [str(tmp_path / "data/mine.json"), "owner/pairs:hard/test"]
    assert recipe.data.eval == ["owner/pairs:hard/test"]
    assert recipe.data.columns == {"prompt": "question"}
    assert recipe.objective.settings == {"beta": 2.0, "gamma_beta_ratio": 0.5}
    assert (recipe.lora.rank, recipe.lora.alpha) == (4, 8.0)
    assert recipe.lora.target_modules == ["q_proj", "v_proj"] and recipe.load_in_4bit
    assert recipe.train.warmup_steps == 5 and recipe.train.precision == "bfloat16"


def test_a_template_that_is_not_given_is_the_tokenizers_as_there(made):
    for template, ours in ((None, "chat"), ("qwen", "chat"), ("empty", "plain")):
        found, recipe = made(FACTORY, "data.train=a.jsonl", template=template)
        assert recipe.data.template == ours
    without = {key: value for key, value in FACTORY.items() if key != "template"}
    found, recipe = made(without, "data.train=a.jsonl")
    assert recipe.data.template == "chat"
    assert found.translated["template"].startswith("not given: the tokenizer's own")


@pytest.mark.parametrize("key", ["dataset", "eval_dataset"])
def test_columns_that_two_data_sets_call_otherwise_are_refused(made, key, tmp_path):
    (tmp_path / "data").mkdir()
    table = {
        "a": {"file_name": "a.jsonl", "columns": {"chosen": "good", "rejected": "bad"}},
        "b": {"file_name": "b.jsonl", "columns": {"chosen": "bad", "rejected": "good"}},
    }
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(table))
    files = {"dataset": "a"} | ({key: "a,b"} if key == "dataset" else {key: "b"})
    with pytest.raises(ConfigError, match=f"{key}: b calls rejected 'good', others 'bad'; give"):
        made(FACTORY, **files)
    _, recipe = made(FACTORY, "data.columns={chosen: bad, rejected: good}", **files)
    assert recipe.data.columns == {"chosen": "bad", "rejected": "good"}


def test_an_input_that_goes_with_another_prompt_than_an_instruction_is_refused(made, tmp_path):
    (tmp_path / "data").mkdir()
    columns = {"prompt": "question", "query": "input"}
    table = {"mine": {"file_name": "a.jsonl", "columns": columns}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(table))
    with pytest.raises(ConfigError, match="dataset: mine has query, which is not here"):
        made(FACTORY)


@pytest.mark.parametrize("table", [[], {"mine": ["a.jsonl"]}, {"mine": {"columns": None}}])
def test_a_dataset_info_of_something_else_is_named(made, table, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(table))
    with pytest.raises(ConfigError, match="dataset_info.json must hold an object for each data"):
        made(FACTORY)


def test_steps_of_warm_up_are_those_of_transformers(made):
    found, recipe = made(TRL, warmup_steps=10, warmup_ratio=0.5, max_steps=100)
    assert recipe.train.warmup_steps == 10
    assert found.idle["warmup_ratio"] == "warmup_steps is given"
    for given in ({"warmup_ratio": 0.1}, {"warmup_steps": 0.1}):
        assert made(TRL, max_steps=45, **given)[1].train.warmup_steps == 5  # Of 4.5.
    with pytest.raises(ConfigError, match=r"ceil\(0.1 x optimiser steps\)") as error:
        made(TRL, warmup_ratio=0.1, per_device_train_batch_size=4, processes=2)
    assert "these are ceil(rows / 8) x 1 epochs; give train.warmup_steps=" in str(error.value)


@pytest.mark.parametrize(
    "key", ["per_device_train_batch_size", "gradient_accumulation_steps", "max_steps"]
)
def test_a_part_of_a_pair_or_a_step_is_refused_instead_of_cut(made, key):
    with pytest.raises(ConfigError, match=f"{key}: got 2.5; must be a whole number"):
        made(TRL, **{key: 2.5})


def test_a_builder_of_files_that_are_not_named_is_refused(made):
    with pytest.raises(ConfigError, match="json is a builder .* give data.train="):
        made(TRL | {"dataset_name": "json"})
    assert made(TRL | {"dataset_name": "json"}, "data.train=a.jsonl")[1].data.train == "a.jsonl"


def test_a_file_of_data_is_told_from_a_yaml(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="is a file of data; give a YAML of trl dpo"):
        convert(path)


@pytest.mark.parametrize(
    ("more", "reference"),
    [
        ({}, "base"),  # There it is the model without the adapter that is learned on.
        ({"ref_model_adapters": "saves/sft"}, "previous"),
        ({"create_new_adapter": True}, "previous"),
    ],
)
def test_an_adapter_to_learn_on_has_the_reference_of_llama_factory(made, more, reference):
    start = {"adapter_name_or_path": "saves/sft", "lora_rank": 4, "lora_dropout": 0.05}
    _, recipe = made(FACTORY, "data.train=a.jsonl", **start, **more)
    assert (recipe.lora.start_from, recipe.reference) == ("saves/sft", reference)
    assert recipe.lora.freeze_start is bool(more.get("create_new_adapter"))


@pytest.mark.parametrize(
    ("stage", "loss", "name", "settings"),
    [
        ("dpo", "sigmoid", "dpo", {"dpo_label_smoothing": 0.1}),
        ("dpo", "orpo", "orpo", {}),
        ("dpo", "ipo", "ipo", {"pref_ftx": 0.2}),
        ("kto", "sigmoid", "kto", {"kto_rejected_weight": 0.5}),
    ],
)
def test_the_losses_of_llama_factory(made, stage, loss, name, settings):
    _, recipe = made(FACTORY, "data.train=a.jsonl", stage=stage, pref_loss=loss, **settings)
    ours = recipe.objective.settings
    assert recipe.objective.name == name and ours["beta"] == 0.1
    assert ours.get("label_smoothing") == settings.get("dpo_label_smoothing")
    assert ours.get("nll_weight") == settings.get("pref_ftx")
    assert ours.get("undesirable_weight", 0.5) == 0.5


@pytest.mark.parametrize("settings", [TRL, FACTORY])
def test_a_base_at_a_revision_stays_at_it(made, settings):
    for revision, model in (("v1", "owner/base@v1"), ("main", "owner/base")):
        _, recipe = made(settings, "data.train=mine.jsonl", model_revision=revision)
        assert recipe.model == model


def test_a_loss_of_trl_that_is_dropped_takes_its_weight_with_it(made):
    more = {"loss_type": ["foo", "sppo_hard", "sigmoid"], "loss_weights": [0.3, 0.4, 0.5]}
    _, recipe = made(TRL, dropped=("loss_type",), **more)
    assert recipe.objective.name == "0.8 * sppo + 0.5 * dpo"


@pytest.mark.parametrize("mixture", [["a/b"], "a/b", [{"split": "train"}]])
def test_a_mixture_of_data_sets_that_names_none_is_told_by_its_key(made, mixture):
    with pytest.raises(ConfigError, match="^datasets: each needs a path or data_files; give data"):
        made(TRL, datasets=mixture)
    assert made(TRL, "data.train=a.jsonl", datasets=mixture)[1].data.train == "a.jsonl"


REFUSED = [
    (TRL, {"use_peft": False}, "use_peft: TRL trains all weights"),
    (TRL, {"loss_type": "aot"}, "loss_type: aot is not here; give objective.name"),
    (TRL, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}, "loss_weights: each loss_type"),
    (TRL, {"ld_alpha": 0.5}, "ld_alpha: no part"),
    (TRL, {"adam_beta2": 0.95}, "adam_beta2: betas"),
    (TRL, {"num_train_epochs": 1.5}, "num_train_epochs: passes"),
    (TRL, {"load_best_model_at_end": True}, "load_best_model_at_end: the last leader"),
    (TRL, {"lr": 1e-3}, "lr: trl has no such key"),
    (FACTORY, {}, "dataset: no dataset_info.json"),
    (FACTORY, {"finetuning_type": "full"}, "finetuning_type: full trains other weights"),
    (FACTORY, {"val_size": 0.1}, "val_size: held-out pairs are files of their own"),
    (FACTORY, {"use_dora": True}, "use_dora: DoRA is not here"),
    (FACTORY, {"use_galore": True}, "use_galore: is not here"),
    (FACTORY, {"ref_model": "another"}, "ref_model: the reference is"),
    (FACTORY, {"packd": True}, "packd: llama-factory has no such key"),
]


@pytest.mark.parametrize(("base", "more", "said"), REFUSED)
def test_what_changes_the_training_is_refused_unless_it_is_dropped(made, base, more, said):
    with pytest.raises(ConfigError, match=said) as caught:
        made(base, **more)
    key = said.partition(":")[0]
    assert f"--drop {key}" in str(caught.value)
    given = [] if base is TRL or key == "dataset" else ["data.train=a.jsonl"]
    given = ["data.train=a.jsonl"] if key == "dataset" else given
    found, _ = made(base, *given, dropped=() if key == "dataset" else (key,), **more)
    assert key in {**found.lost, **found.idle}


def test_every_key_of_trl_has_its_place(made):
    trl = pytest.importorskip("trl", reason="NOT COMPARED WITH TRL: it is not installed")
    kinds = (trl.ScriptArguments, trl.DPOConfig, trl.ModelConfig, trl.DatasetMixtureConfig)
    names = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    found, _ = made(dict.fromkeys(names) | TRL, "data.max_length=1024")
    assert names == {*found.translated, *found.idle, *found.lost} & names


def test_the_command_prints_a_recipe_that_is_read(tmp_path):
    path = tmp_path / "theirs.yaml"
    path.write_text(yaml.safe_dump(TRL | {"push_to_hub": True}))
    shown = CliRunner().invoke(app, ["convert", str(path), "data.max_length=256"])
    assert shown.exit_code == 0, shown.output
    recipe = yaml.safe_load(shown.stdout)
    assert recipe["data"]["max_length"] == 256 and "#   push_to_hub: push when" in shown.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: m\n", "model_name_or_path is missing"),
        ("- a\n", "must hold keys"),
        ("", "must hold"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, text, said):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        convert(tmp_path / "a.yaml")
