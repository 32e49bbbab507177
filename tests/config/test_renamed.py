"""Old names are taken for one release, and removed keys are refused with the reason."""

import warnings

import pytest

from fastslow import load_recipe
from fastslow.errors import ConfigError

RULE = {"kind": "classifier", "data": "d.jsonl"}


def test_an_old_name_is_taken_with_a_warning():
    with pytest.warns(FutureWarning, match="eval.samples is called eval.num_prompts now"):
        assert load_recipe({"model": "m", "eval": {"samples": 3}}).eval.num_prompts == 3
    with pytest.warns(FutureWarning, match="lora.targets is called lora.target_modules now"):
        assert load_recipe({"model": "m"}, ["lora.targets=a"]).lora.target_modules == "a"


def test_an_old_name_beside_the_new_one_is_refused():
    raw = {"model": "m", "eval": {"samples": 3, "num_prompts": 4}}
    with pytest.raises(ConfigError, match="eval.samples: is the old name of eval.num_prompts"):
        load_recipe(raw)


@pytest.mark.parametrize("where", ["judge", "eval.judge"])
def test_a_removed_key_is_refused_with_the_reason(where):
    judge = RULE | {"with_prompt": True}
    eval_only = {"eval": {"judge": judge}}
    given = {"filter": {}, "judge": judge} if where == "judge" else eval_only
    with pytest.raises(ConfigError, match=f"^{where}.with_prompt: was removed; the answer alone"):
        load_recipe({"model": "m", **given})
    with pytest.raises(ConfigError, match=f"^{where}.with_prompt: was removed"):
        load_recipe(
            {"model": "m", "filter": {}, "judge": RULE} | {"eval": {"judge": RULE}},
            [f"{where}.with_prompt=true"],
        )


def test_a_removed_key_may_keep_its_default_in_the_file_of_an_old_run():
    raw = {"model": "m", "filter": {}, "judge": RULE | {"with_prompt": False}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_recipe(raw, ["judge.with_prompt=false"]).judge.kind == "classifier"
