"""Old names of recipe keys are taken for one release, with a warning that says the new one."""

import warnings
from functools import reduce

import pytest
import yaml

from fastslow import load_recipe
from fastslow.config import dump_recipe
from fastslow.config.renamed import RENAMED
from fastslow.errors import ConfigError

LLM = {"kind": "llm", "url": "http://127.0.0.1:9/v1", "model": "m"}
ENGINE = {"url": "http://127.0.0.1:9/v1", "model": "m"}
PLAIN = {"model": "m", "data": {"train": "pairs.jsonl"}}
VALUES = {
    "task": "reward",
    "lora.target_modules": ["q_proj"],
    "data.replay_buffer_size": 7,
    "train.max_grad_norm": 0.5,
    "chase.loss_decay": 0.3,
    "eval.num_prompts": 3,
    "rounds.offline_fraction": 0.25,
    "online.offline_fraction": 0.25,
}
"""A value of each key that none has by default; what is not here counts."""
BESIDE = {
    "online": {"judge": LLM},
    "rounds": {"judge": LLM},
    "filter": {"judge": LLM},
    "rounds.engine": {"judge": LLM, "rounds": {"engine": ENGINE}},
    "online.engine": {"judge": LLM, "online": {"engine": ENGINE}},
    "judge": {"judge": LLM, "online": {}},
    "eval.judge": {"eval": {"judge": LLM}},
    "online_kl": {"online_kl": {"weight": 0.1}},
}
"""What a section asks for beside it."""


def value_of(new):
    return VALUES.get(new, "OTHER_KEY" if new.endswith("api_key_env") else 5)


def with_key(raw, key, value):
    """The recipe with a dotted key set."""
    *sections, last = key.split(".")
    copy = yaml.safe_load(yaml.safe_dump(raw))
    reduce(lambda section, name: section.setdefault(name, {}), sections, copy)[last] = value
    return copy


def recipe_of(key, value):
    raw = PLAIN | BESIDE.get(key.rpartition(".")[0], {})
    return with_key(raw, key, value)


def read(recipe, key):
    return reduce(lambda section, name: section[name], key.split("."), yaml.safe_load(recipe))


def quietly(raw, overrides=()):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return dump_recipe(load_recipe(raw, overrides))


@pytest.mark.parametrize(("old", "new"), RENAMED.items(), ids=list(RENAMED))
def test_an_old_name_means_the_new_one_and_is_warned_of(old, new):
    value = value_of(new)
    expected = quietly(recipe_of(new, value))
    assert read(expected, new) == value
    with pytest.warns(FutureWarning, match=f"^{old} is called {new} now; rename it$"):
        assert dump_recipe(load_recipe(recipe_of(old, value))) == expected


@pytest.mark.parametrize(("old", "new"), RENAMED.items(), ids=list(RENAMED))
def test_an_override_may_have_the_old_name(old, new):
    value = value_of(new)
    base = PLAIN | BESIDE.get(new.rpartition(".")[0], {})
    expected = quietly(recipe_of(new, value))
    with pytest.warns(FutureWarning, match=f"^{old} is called {new} now"):
        assert dump_recipe(load_recipe(base, [f"{old}={yaml.safe_dump(value)}"])) == expected


@pytest.mark.parametrize(("old", "new"), RENAMED.items(), ids=list(RENAMED))
def test_both_names_are_one_fault_that_says_both(old, new):
    value = value_of(new)
    with pytest.raises(ConfigError) as caught:
        load_recipe(with_key(recipe_of(old, value), new, value))
    assert caught.value.problems == (
        f"{old}: is the old name of {new}, which is given too; remove {old}",
    )


def test_an_override_of_a_whole_section_may_have_old_names():
    with pytest.warns(FutureWarning, match="train.clip_norm is called train.max_grad_norm now"):
        recipe = load_recipe({"model": "m"}, ["train={clip_norm: 0.5, batch_size: 4}"])
    assert (recipe.train.max_grad_norm, recipe.train.batch_size) == (0.5, 4)


def test_an_override_wins_over_the_recipe_whichever_of_them_has_the_old_name():
    for raw, override in (("clip_norm", "max_grad_norm"), ("max_grad_norm", "clip_norm")):
        with pytest.warns(FutureWarning):
            made = load_recipe({"model": "m", "train": {raw: 3.0}}, [f"train.{override}=0.5"])
        assert made.train.max_grad_norm == 0.5


def test_stages_may_have_old_names():
    stages = [{"name": "sft", "train": {"clip_norm": 0.5}}, "preferences"]
    with pytest.warns(FutureWarning, match="train.clip_norm is called"):
        recipe = load_recipe({"model": "m", "stages": stages})
    new = [{"name": "sft", "train": {"max_grad_norm": 0.5}}, "preferences"]
    assert dump_recipe(recipe) == quietly({"model": "m", "stages": new})
    both = [{"name": "sft", "train": {"clip_norm": 0.5, "max_grad_norm": 0.5}}, "preferences"]
    with pytest.raises(ConfigError, match="train.clip_norm: is the old name"):
        load_recipe({"model": "m", "stages": both})


@pytest.mark.parametrize("where", ["judge", "eval.judge"])
def test_the_judges_of_an_ensemble_may_have_old_names(where):
    def ensemble(*names):
        members = [{**LLM, name: 3} for name in names]
        beside = {"online": {}} if where == "judge" else {}
        judge = {"kind": "ensemble", "members": members}
        return with_key({"model": "m", **beside}, where, judge)

    with pytest.warns(FutureWarning, match=f"^{where}.at_once is called {where}.max_concurrency"):
        recipe = load_recipe(ensemble("at_once", "max_concurrency"))
    assert dump_recipe(recipe) == quietly(ensemble("max_concurrency", "max_concurrency"))


def test_the_callers_own_mapping_is_left_as_it_is():
    raw = {"model": "m", "train": {"clip_norm": 0.5}}
    with pytest.warns(FutureWarning):
        load_recipe(raw, ["eval.samples=2"])
    assert raw == {"model": "m", "train": {"clip_norm": 0.5}}


def test_a_key_that_was_never_one_is_refused_as_ever():
    with pytest.raises(
        ConfigError, match="train.max_grad_nrom: .*did you mean 'train.max_grad_norm'"
    ):
        load_recipe({"model": "m", "train": {"max_grad_nrom": 1.0}})
