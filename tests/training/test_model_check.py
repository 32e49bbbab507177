"""What a base and its modules cannot do is known before the first step, and by `validate`."""

import json

import families
import pytest
import tiny

from fastslow import load_recipe, training
from fastslow.errors import ConfigError
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.policies.model_check import check_model
from fastslow.training.preflight import check_parts


@pytest.fixture(scope="module")
def base_of(tmp_path_factory):
    """The folder of a tiny model of a family."""
    made = {}

    def folder(family):
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            families.model(family).save_pretrained(made[family])
            tiny.tokenizer().save_pretrained(made[family])
        return made[family]

    return folder


@pytest.fixture
def domains(tmp_path):
    """Makes the recipe of a run over two domains."""
    files = {
        name: {
            "train": str(tiny.write_rows(tmp_path / f"{name}.jsonl", tiny.rows(16, seed=seed))),
            "eval": str(tiny.write_rows(tmp_path / f"{name}-eval.jsonl", tiny.rows(8, seed=9))),
        }
        for seed, name in enumerate("ab")
    }

    def make(base, **lora):
        raw = tiny.continual_settings(base, files, ["a", "b"])
        raw["lora"] |= lora
        return load_recipe(raw | {"output_dir": str(tmp_path / "run")})

    return make


def test_modules_that_cannot_be_summed_are_refused_before_the_first_domain(
    base_of, domains, tmp_path
):
    recipe = domains(base_of("mixtral"))
    for refuse in (lambda: check_parts(recipe, ProcessGroup()), lambda: training.train(recipe)):
        with pytest.raises(ConfigError, match=r"cannot be summed \(target_parameters\)"):
            refuse()
    assert not list((tmp_path / "run").glob("domains/*"))


def test_linear_layers_of_such_a_base_can(base_of, domains):
    recipe = domains(base_of("mixtral"), target_modules=["q_proj", "v_proj"])
    check_parts(recipe, ProcessGroup())


def test_experts_that_all_linear_does_not_reach_are_said_once(base_of, recipe, tmp_path):
    made = recipe(f"model={base_of('llama4_text')}", "chase=null", "train.max_steps=1")
    (said,) = check_model(made, critic=False, summed=False)
    assert "4 weights of experts" in said and "feed_forward.experts.gate_up_proj" in said
    heard = []
    training.train(made, listener=heard.append)
    warned = [event["message"] for event in heard if event["event"] == "warning"]
    assert warned.count(said) == 1
    named = recipe(f"model={base_of('llama4_text')}", "lora.target_modules=[q_proj]")
    assert check_model(named, critic=False, summed=False) == []


@pytest.mark.parametrize("family", ["llama", "mixtral", "rwkv", "lfm2"])
def test_what_all_linear_reaches_brings_no_warning(base_of, recipe, family):
    made = recipe(f"model={base_of(family)}")
    assert check_model(made, critic=True, summed=False) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["lora.target_modules=[nowhere]"], "lora.target_modules: .*nowhere"),
        (["lora.target_modules=[lm_head]"], "the output layer cannot have a module"),
    ],
)
def test_modules_that_fit_nowhere_are_found_without_weights(recipe, overrides, message):
    with pytest.raises(ConfigError, match=message):
        check_parts(recipe(*overrides), ProcessGroup())


def test_a_base_that_is_not_whole_is_found_without_weights(recipe, tmp_path):
    folder = tiny.save_model(tmp_path / "base")
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 3}))
    with pytest.raises(ConfigError, match="is not whole: .*lacks 9"):
        check_parts(recipe(f"model={folder}"), ProcessGroup())


def test_a_start_on_another_base_is_found_without_weights(recipe, tmp_path):
    training.train(recipe("train.max_steps=1", "eval.num_prompts=0"))
    start = tmp_path / "run" / "adapters" / "fast"
    other = tiny.save_model(tmp_path / "other", seed=7)
    settings = [f"lora={{start_from: {start}}}", f"output_dir={tmp_path / 'second'}"]
    with pytest.raises(ConfigError, match="trained on another base"):
        check_parts(recipe(f"model={other}", *settings), ProcessGroup())
    check_parts(recipe(*settings), ProcessGroup())


def test_weights_in_a_quantisation_that_is_not_installed_are_found(recipe, tmp_path):
    folder = tiny.save_model(tmp_path / "base")
    config = folder / "config.json"
    stored = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}
    config.write_text(json.dumps(json.loads(config.read_text()) | stored))
    with pytest.raises(ConfigError, match="cannot be loaded: .*optimum"):
        check_parts(recipe(f"model={folder}"), ProcessGroup())
