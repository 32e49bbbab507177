"""Stages of a recipe: what each becomes, and what is refused before anything is trained."""

import pytest

from fastslow.config import dump_recipe, load_recipe, stage_recipe
from fastslow.errors import ConfigError
from fastslow.objectives import objective_problems

WHOLE = {
    "model": "m",
    "output_dir": "out",
    "data": {"train": "pairs.jsonl", "eval": "test.jsonl", "max_length": 256},
    "lora": {"rank": 4},
    "objective": {"name": "ipo", "beta": 0.5},
    "chase": {"alpha": 0.2},
    "train": {"learning_rate": 1e-3, "batch_size": 4},
}

RULE = {"kind": "rule", "file": "rule.py"}


def load(stages, **changes):
    return load_recipe({**WHOLE, "stages": stages, **changes}, checks=[objective_problems])


def test_each_stage_is_the_recipe_with_its_own_sections():
    sft = {"name": "sft", "data": {"train": "shown.jsonl"}, "train": {"epochs": 3}}
    whole = load([sft, "preferences"])
    first = stage_recipe(whole, 0, start_from="", output_dir="out/stages/01-sft")
    second = stage_recipe(whole, 1, start_from="adapter")
    assert first.objective.name == "sft" and first.objective.settings == {}
    assert first.chase is None and first.lora == whole.lora and first.reference == "base"
    assert first.data.train == "shown.jsonl" and first.data.eval == "test.jsonl"
    assert (first.train.epochs, first.train.learning_rate) == (3, 1e-3)
    assert first.output_dir == "out/stages/01-sft"
    assert second.objective == whole.objective and second.chase == whole.chase
    assert second.lora.start_from == "adapter" and second.reference == "previous"
    assert second.data == whole.data and second.train == whole.train
    assert second.output_dir == "out" and not first.stages and not second.stages


def test_an_objective_by_another_name_is_another_section():
    stages = ["sft", {"name": "preferences", "objective": {"name": "simpo"}}]
    found = stage_recipe(load(stages), 1, start_from="a").objective
    assert (found.name, found.settings) == ("simpo", {})
    stages[1]["objective"] = {"beta": 0.9}
    found = stage_recipe(load(stages), 1, start_from="a").objective
    assert (found.name, found.settings) == ("ipo", {"beta": 0.9})


def test_the_base_can_stay_the_reference():
    whole = load(["sft", "preferences"], reference="base")
    second = stage_recipe(whole, 1, start_from="adapter")
    assert second.reference == "base" and second.lora.start_from == "adapter"
    alone = load(["sft", {"name": "preferences", "reference": "base"}])
    assert stage_recipe(alone, 1, start_from="adapter").reference == "base"


def test_the_first_stage_may_start_from_an_adapter():
    whole = load(["sft", "preferences"], lora={"start_from": "old"})
    first = stage_recipe(whole, 0, start_from="")
    assert first.lora.start_from == "old" and first.reference_name == "previous"


def test_stages_from_the_command_line_and_back_from_yaml(tmp_path):
    whole = load_recipe(WHOLE, ["stages=[sft, preferences]"])
    path = tmp_path / "config.yaml"
    path.write_text(dump_recipe(whole))
    assert load_recipe(path) == whole and [s.name for s in whole.stages] == ["sft", "preferences"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["sft", "dpo"], "stages.2.name: got 'dpo'; input should be 'sft' or 'preferences'"),
        ([{"name": "sft", "model": "x"}], "stage 1, sft: model is the same for all stages"),
        ([{"name": "sft", "task": "reward"}], "stage 1, sft: task is the same for all stages"),
        (["sft", {"name": "preferences", "lora": {}}], "stage 2, preferences: starts from"),
        (["sft", {"name": "preferences", "rounds": {"count": 2}, "judge": RULE}],
         "stage 2, preferences: rounds: a stage is a single run"),
        ([{"name": "sft", "train": {"epoch": 2}}], "stage 1, sft: train.epoch: there is no such"),
        ([{"name": "sft", "objective": {"bta": 1}}], "stage 1, sft: objective.bta: sft has no"),
        ([{"name": "sft", "tain": {}}], "stage 1, sft: tain: there is no such key; did you mean"),
    ],
)  # fmt: skip
def test_what_is_refused(stages, message):
    with pytest.raises(ConfigError) as error:
        load(stages)
    assert message in str(error.value)


def test_an_unknown_key_in_a_list_of_sections_is_named():
    with pytest.raises(
        ConfigError, match=r"continual.domains.1.trian: .* did you mean 'continual.domains.1.train'"
    ):
        load_recipe({"model": "m", "continual": {"domains": [{"name": "a", "trian": "x"}]}})


def test_all_faults_of_all_stages_are_named_at_once():
    first = {"name": "sft", "train": {"epochs": 0, "batch_size": -1}}
    with pytest.raises(ConfigError) as error:
        load([first, {"name": "preferences", "objective": {"beta": -1}}])
    assert len(error.value.problems) == 3
    assert error.value.problems[2].startswith("stage 2, preferences: objective.beta: got -1")


def test_standard_input_is_for_one_stage():
    with pytest.raises(ConfigError, match=r"stages: standard input \(-\) can be read once only"):
        load(["sft", "preferences"], data={"train": "-", "max_length": 256})
    live = {"name": "preferences", "data": {"train": "-"}}
    assert load(["sft", live]).stages[1].sections == {"data": {"train": "-"}}


def test_stages_and_several_domains_do_not_go_together():
    domains = [{"name": "a", "train": "a.jsonl"}]
    with pytest.raises(ConfigError, match=r"stages: cannot be combined with continual"):
        load(["sft", "preferences"], continual={"domains": domains}, data={"max_length": 256})
