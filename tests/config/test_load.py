"""Recipes: defaults, overrides, and every fault named at once."""

import re
from pathlib import Path

import pytest
import yaml

from fastslow import Recipe, load_recipe
from fastslow.config import dump_recipe, recipe_names, recipe_summary, recipe_text
from fastslow.errors import ConfigError
from fastslow.objectives import objective_problems


def problems(*overrides, **raw):
    with pytest.raises(ConfigError) as caught:
        load_recipe(raw, overrides, checks=[objective_problems])
    return caught.value.problems


def test_every_key_but_the_model_has_a_default_that_is_written_out():
    recipe = load_recipe({"model": "m"})
    written = yaml.safe_load(dump_recipe(recipe))
    assert written["chase"] == {
        "alpha": 0.01, "speeds": 2, "slow_ratio": 0.3, "slow_every": 1, "swap_every": 2,
        "loss_decay": 0.8, "swap": "roles",
    }  # fmt: skip
    assert written["train"]["learning_rate"] == 1e-4 and written["lora"]["rank"] == 16
    assert load_recipe(written) == recipe


def test_every_field_says_what_it_is():
    def walk(model):
        for name, field in model.model_fields.items():
            nested = [field.annotation, *getattr(field.annotation, "__args__", ())]
            sections = [n for n in nested if isinstance(n, type) and hasattr(n, "model_fields")]
            assert field.description or sections, f"{model.__name__}.{name}"
            for section in sections:
                assert section.__doc__
                walk(section)

    walk(Recipe)


def test_overrides():
    recipe = load_recipe(
        {"model": "m", "data": {"train": "a", "eval": "b"}},
        ["data.train=[x.jsonl, y.jsonl]", "train.learning_rate=5e-4", "chase.alpha=0",
         "data.eval=null", "objective.beta=0.3", "output_dir=runs/a=b"],
    )  # fmt: skip
    assert recipe.data.train_sources == ["x.jsonl", "y.jsonl"] and recipe.data.eval_sources == []
    assert recipe.train.learning_rate == 5e-4 and recipe.chase.alpha == 0
    assert recipe.objective.settings == {"beta": 0.3} and recipe.output_dir == "runs/a=b"
    assert load_recipe({"model": "m"}, ["data.train=-"]).data.train_sources == ["-"]
    assert load_recipe({"model": "m"}, ["chase=null"]).chase is None
    assert load_recipe({"model": "m", "chase": None}, ["chase.alpha=1"]).chase.alpha == 1


@pytest.mark.parametrize("section", ["online", "rounds", "filter"])
def test_sampled_answers_leave_half_of_the_length_to_prompts_where_nothing_is_said(section):
    judge = {"kind": "rule", "file": "rule.py"}

    def longest(*overrides, **given):
        recipe = load_recipe({"model": "m", "judge": judge, section: given}, overrides)
        assert load_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe
        return getattr(recipe, section).max_new_tokens

    assert [longest(f"data.max_length={length}") for length in (4096, 1024, 301, 96, 2)] == [
        512, 512, 150, 48, 1
    ]  # fmt: skip
    assert longest() == 512
    assert longest("data.max_length=96", max_new_tokens=64) == 64
    assert longest("data.max_length=96", f"{section}.max_new_tokens=80") == 80


def test_an_override_leaves_the_callers_mapping_alone():
    raw = {"model": "m", "train": {"batch_size": 4}}
    load_recipe(raw, ["train.batch_size=8"])
    assert raw == {"model": "m", "train": {"batch_size": 4}}


def test_all_faults_are_named_at_once():
    found = problems(
        "train.batch_sise=3",
        "nonsense",
        chase={"slow_ratio": 2},
        data={"max_bad_fraction": -1},
        objective={"name": "dpoo"},
        trian={},
        train={"max_steps": "many", "schedule": "linearr"},
    )
    text = "\n".join(found)
    for part in [
        "override 'nonsense': write it as section.key=value",
        "model: is missing",
        "trian: there is no such key; did you mean 'train'?",
        "train.batch_sise: there is no such key; did you mean 'train.batch_size'?",
        "train.max_steps: got 'many'",
        "chase.slow_ratio: got 2; input should be less than or equal to 1",
        "data.max_bad_fraction: got -1",
        "train.schedule: got 'linearr'; input should be",
        "objective.name: got 'dpoo'; did you mean 'dpo'?",
    ]:
        assert part in text, text
    assert len(found) == 9


@pytest.mark.parametrize("measured", [["data.eval=e"], []])
def test_the_default_length_of_answers_leaves_short_prompts_room(measured):
    def length(*overrides):
        return load_recipe({"model": "m"}, [*overrides, *measured]).eval.max_new_tokens

    assert length("data.max_length=128") == 64 and length("data.max_length=300") == 128
    assert length("data.max_length=128", "eval.max_new_tokens=100") == 100
    assert length("data.max_length=96", "eval.every=5") == 48


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["reference=previous"], "needs|without lora.start_from is the base"),
        (["load_in_4bit=true"], "a 4-bit base computes in bfloat16"),
        (["eval.max_new_tokens=2000", "data.eval=e"], "must be below data.max_length"),
        (["train.learning_rate=.inf"], "finite number"),
        (["train.learning_rate=0"], "greater than 0"),
        (["train.batch_size=true"], "train.batch_size: got 'true'; input should be a valid int"),
        (["eval.every=false"], "eval.every: got 'false'; input should be a valid integer"),
        (["lora.dropout=false"], "lora.dropout: got 'false'; input should be a valid number"),
        (["data.train=[1, {]"], "not valid YAML"),
        (["model.name=x"], "model: got"),
        (["data.train=5"], "data.train: got 5; input should be text or a list of texts"),
        (["data.train=-", "data.eval=-"], "can be read once only"),
        (["train.micro_batch_size=32"], "must not be above train.batch_size = 16"),
        (["train.warmup_steps=9", "train.max_steps=9"], "must be below train.max_steps"),
        (["lora.start_from=a", "lora.rank=8"], "brings its own settings; remove rank"),
        (["lora.freeze_start=true"], "lora.freeze_start: there is no adapter to leave as it is"),
        (
            ["lora={start_from: a, freeze_start: true}", "anchor={strength: 0.1}"],
            "lora.freeze_start learns fresh ones",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(overrides, message):
    assert re.search(message, "\n".join(problems(*overrides, model="m")))


def test_contradictions_are_named_together_too():
    found = problems("train.micro_batch_size=32", "reference=previous", model="m")
    assert len(found) == 2


DOMAINS = [
    {"name": "a", "train": "a.jsonl", "eval": "ae.jsonl"},
    {"name": "b", "train": ["b.jsonl"], "eval": ["be.jsonl"]},
]
ONE = [{"name": "c", "train": "c.jsonl", "eval": None}]


@pytest.mark.parametrize(
    ("section", "overrides", "message"),
    [
        ({}, [], "continual: give either continual.domains, or drift"),
        ({"domains": DOMAINS}, ["drift={}"], "continual: give either continual.domains, or drift"),
        ({"domains": DOMAINS}, ["data.train=x"], "remove data.train and data.eval"),
        ({"domains": DOMAINS, "weights": "fixed"}, [], "continual.fixed: goes together with"),
        ({"domains": DOMAINS, "fixed": [1, 1]}, [], "continual.fixed: goes together with"),
        ({"domains": DOMAINS, "weights": "fixed", "fixed": [1]}, [], "1 weights for 2 domains"),
        ({"weights": "fixed", "fixed": [1]}, ["drift={}"], "how many domains drift will find"),
        ({"domains": DOMAINS, "weights": None, "recompress": 2}, [], "nothing|no combination"),
        ({"domains": DOMAINS, "weights": "routed", "recompress": 2}, [], "weights: routed"),
        ({"domains": DOMAINS, "anchor": "ewc"}, [], "fresh adapters have nothing to be held near"),
        ({"domains": DOMAINS}, ["data.replay_buffer_size=0"], "data.replay_buffer_size: is 0"),
        (
            {"domains": DOMAINS, "weights": None, "replay": 0.1},
            ["data.replay_buffer_size=0"],
            "data.replay_buffer_size",
        ),
        (
            {"domains": DOMAINS, "weights": None, "start": "continue", "anchor": "ewc"},
            ["data.replay_buffer_size=0"],
            "data.replay_buffer_size: is 0, but replay, ewc",
        ),
        ({"domains": DOMAINS}, ["lora.start_from=x"], "set for each domain by continual"),
        ({"domains": DOMAINS}, ["replay.memory=[x]"], "set for each domain by continual"),
        ({"domains": DOMAINS}, ["reference=previous"], "'previous' with start: fresh is the base"),
        ({"start": "recall"}, ["drift={}"], "no names that return"),
        ({}, ["drift={}", "data.train=-"], "standard input .* write it to a file first"),
        ({}, ["drift={}", "data.train=a", "data.eval=-"], "standard input"),
        ({"domains": [*DOMAINS, *ONE]}, [], "for all of them or for none; it is missing for c$"),
        (
            {"domains": [*DOMAINS, DOMAINS[0] | {"eval": "other"}]},
            [],
            "a returns with other held-out pairs",
        ),
        ({"domains": [ONE[0] | {"train": "-"}] * 2}, [], "can be read once only"),
        ({"domains": [DOMAINS[0] | {"eval": "-"}]}, [], "can be read once only"),
        ({"domains": [ONE[0] | {"name": ""}]}, [], "at least 1 character"),
        ({"domains": DOMAINS, "replay": 1.0}, [], "continual.replay: got 1.0"),
        ({"domains": DOMAINS, "fixed": [float("nan")]}, [], "finite number"),
    ],
)
def test_continual_settings_that_cannot_work_are_refused(section, overrides, message):
    found = problems(*overrides, model="m", continual=section)
    assert re.search(message, "\n".join(found)), found


def test_continual_settings_that_can_work():
    for section, overrides in [
        ({"domains": DOMAINS}, []),
        ({"domains": [*DOMAINS, DOMAINS[0]], "start": "recall"}, []),
        ({"domains": ONE * 3}, []),
        ({"domains": [ONE[0] | {"train": "-"}, *ONE]}, []),
        ({"domains": DOMAINS, "weights": "uniform"}, ["data.replay_buffer_size=0"]),
        ({"start": "continue", "anchor": "ewc"}, ["drift={}", "data.train=a", "data.eval=b"]),
    ]:
        assert load_recipe({"model": "m", "continual": section}, overrides).continual


def test_held_out_pairs_of_all_domains_are_named_once():
    domains = [*DOMAINS, DOMAINS[0]]
    recipe = load_recipe({"model": "m", "continual": {"domains": domains, "start": "recall"}})
    assert recipe.all_eval_sources == ["ae.jsonl", "be.jsonl"]
    assert load_recipe({"model": "m"}, ["data.eval=x"]).all_eval_sources == ["x"]


def test_an_ordinary_run_may_hear_of_drift_from_standard_input():
    assert load_recipe({"model": "m"}, ["drift={}", "data.train=-"]).drift.min_pairs == 256
    with pytest.raises(ConfigError, match="set lora.start_from"):
        load_recipe({"model": "m"}, ["anchor.strength=1"])


def test_numbers_and_paths_people_write_are_understood():
    recipe = load_recipe({"model": "~/m"}, ["objective.beta=1e-1", "train.learning_rate=5e-4"])
    assert recipe.objective.settings == {"beta": 0.1}
    assert recipe.model == str(Path.home() / "m")


def test_yaml_files(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbfmodel: m\r\ntrain:\r\n  learning_rate: 1e-3\r\n")
    assert load_recipe(path).train.learning_rate == 1e-3
    for text, message in [
        ("model: a\nmodel: b\n", "key 'model' is given twice"),
        ("model: [", "not valid YAML"),
        ("? [a]\n: 1\n", "is not a name"),
        ("- a\n", "must hold sections and keys, not a list"),
        ("!!python/object/apply:os.system ['true']\n", "not valid YAML"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=re.escape(message)):
            load_recipe(path)
    path.write_text("base: &b\n  beta: 0.3\nmodel: m\nobjective:\n  <<: *b\n  name: ipo\n")
    with pytest.raises(ConfigError, match="base: there is no such key"):
        load_recipe(path)
    path.write_bytes(b"model: caf\xe9\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(path)
    with pytest.raises(ConfigError, match="does not exist"):
        load_recipe(tmp_path / "none.yaml")
    path.write_text("")
    with pytest.raises(ConfigError, match="model: is missing"):
        load_recipe(path)


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid_and_says_what_it_is(name):
    recipe = load_recipe(name, ["model=m"], checks=[objective_problems])
    assert recipe.output_dir == f"runs/{name}"
    assert recipe_text(name).startswith(f"# {recipe_summary(name)}\n")


def test_no_two_shipped_recipes_say_the_same():
    summaries = [recipe_summary(name) for name in recipe_names()]
    assert len(set(summaries)) == len(summaries) and max(map(len, summaries)) <= 110


def test_recipes_are_there():
    assert set(recipe_names()) == {
        f"{domain}-{kind}"
        for domain in ("helpfulness", "summarization", "sentiment")
        for kind in ("dpo", "ofs")
    } | {"domains-cofs", "espo", "reward", "rounds", "sentiment-hypo"}


def test_a_file_goes_before_a_shipped_recipe_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rounds").mkdir()
    assert load_recipe("rounds", ["model=m"]).rounds.count == 3
    (tmp_path / "reward").write_text("model: m\noutput_dir: mine\n")
    assert load_recipe("reward").output_dir == "mine"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sentimet-ofs", "did you mean 'sentiment-ofs', which comes with fastslow?"),
        ("recipes/sentiment-ofs.yaml", "did you mean 'sentiment-ofs'"),
        ("none.yaml", "a name that `fastslow recipes` lists"),
    ],
)
def test_a_recipe_that_is_not_there_gets_a_hint(name, hint):
    with pytest.raises(ConfigError, match=f"recipe {name} does not exist.*{re.escape(hint)}"):
        load_recipe(name)
