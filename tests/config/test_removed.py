"""Removed keys are refused with the reason."""

import warnings

import pytest

from fastslow import load_recipe
from fastslow.errors import ConfigError

RULE = {"kind": "classifier", "data": "d.jsonl"}


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
