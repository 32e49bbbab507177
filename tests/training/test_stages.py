"""Runs in stages: demonstrations first, then preferences from there."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from tiers import fast
from typer.testing import CliRunner

import fastslow
from fastslow import training
from fastslow.cli.main import app
from fastslow.errors import ConfigError, DataError, StateError
from fastslow.reports.runs import read_runs

SHORT = ("train.max_steps=4", "eval.num_prompts=2", "eval.max_new_tokens=4")
STAGES = [{"name": "sft", "train": {"max_steps": 3}}, "preferences"]


def adapter(folder, name):
    return load_file(Path(folder) / "adapters" / name / "adapter_model.safetensors")


def same(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


def test_the_second_stage_takes_up_the_first_ones_module_as_its_frozen_reference(recipe, tmp_path):
    made = recipe(f"output_dir={tmp_path / 'staged'}", *SHORT, stages=STAGES)
    seen = []
    summary = training.train(made, listener=seen.append)
    assert [(e["number"], e["of"], e["name"]) for e in seen if e["event"] == "stage"] == [
        (1, 2, "sft"), (2, 2, "preferences"),
    ]  # fmt: skip
    assert summary.steps == 4 and summary.reference == "previous"
    assert summary.eval["start"]["margin"] == 0.0 == summary.eval["start"]["chosen_log_ratio"]

    # The same by hand, in two runs, is the same, bit for bit.
    first = recipe(
        f"output_dir={tmp_path / 'first'}", *SHORT, "train.max_steps=3", "chase=null",
        "objective.name=sft",
    )  # fmt: skip
    training.train(first)
    start = tmp_path / "first" / "adapters" / "policy"
    second = recipe(
        f"output_dir={tmp_path / 'second'}", *SHORT, lora={"start_from": str(start)}
    )  # fmt: skip
    by_hand = training.train(second)
    staged = tmp_path / "staged"
    assert same(
        adapter(staged / "stages" / "01-sft", "policy"), adapter(first.output_dir, "policy")
    )
    for name in ("fast", "slow"):
        assert same(adapter(staged, name), adapter(second.output_dir, name))
    assert summary.eval == by_hand.eval


@pytest.mark.parametrize("at", fast([5], [2, 5]))
def test_a_stopped_run_goes_on_in_the_stage_where_it_was(recipe, tmp_path, at):
    whole = recipe(f"output_dir={tmp_path / 'whole'}", *SHORT, stages=STAGES)
    expected = training.train(whole)
    broken = recipe(f"output_dir={tmp_path / 'broken'}", *SHORT, stages=STAGES)
    steps = []

    def stop(event):
        steps.extend([event] if event["event"] == "step" else [])
        if len(steps) == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(broken, listener=stop)
    assert training.train(broken).eval == expected.eval
    for name in ("fast", "slow"):
        assert same(adapter(broken.output_dir, name), adapter(whole.output_dir, name))


def test_a_finished_one_trains_no_more_and_another_recipe_is_refused(recipe):
    made = recipe(*SHORT, stages=STAGES)
    first = training.train(made)
    seen = []
    assert training.train(made, listener=seen.append) == first
    assert [event["event"] for event in seen] == ["already_complete"]
    other = [{"name": "sft", "train": {"max_steps": 2}}, "preferences"]
    with pytest.raises(StateError, match="differs in stages.1.train.max_steps"):
        training.train(recipe(*SHORT, stages=other))


def test_a_changed_first_stage_is_refused_while_the_second_is_not_begun(recipe):
    trained_up_to_stage_2(recipe(*SHORT, stages=STAGES))
    with pytest.raises(StateError, match="differs in train.learning_rate"):
        training.train(recipe(*SHORT, "train.learning_rate=0.5", stages=STAGES))
    assert training.train(recipe(*SHORT, stages=STAGES)).steps == 4


def stop_at_stage_2(event):
    if event["event"] == "stage" and event["number"] == 2:
        raise KeyboardInterrupt


def trained_up_to_stage_2(made):
    with pytest.raises(KeyboardInterrupt):
        training.train(made, listener=stop_at_stage_2)
    return Path(made.output_dir) / "stages" / "01-sft" / "summary.json"


def test_changed_data_of_a_finished_stage_are_refused_and_may_be_gone(recipe, tmp_path):
    own = tiny.write_rows(tmp_path / "own.jsonl", tiny.rows(48, seed=9))
    stages = [{"name": "sft", "data": {"train": str(own)}, "train": {"max_steps": 3}}]
    made = recipe(*SHORT, stages=[*stages, "preferences"])
    trained_up_to_stage_2(made)
    kept = own.read_bytes()
    own.write_bytes(kept.replace(b"Describe", b"describe", 1) + kept)
    with pytest.raises(StateError, match=r"the data of the run in .*01-sft changed"):
        training.train(made)
    own.write_bytes(kept + kept)
    with pytest.raises(StateError, match=r"rows were added since the run in .*01-sft took them"):
        training.train(made)
    own.unlink()
    assert training.train(made).steps == 4


def test_a_stage_that_has_not_begun_may_be_changed(recipe):
    first = trained_up_to_stage_2(recipe(*SHORT, stages=STAGES))
    before = first.read_bytes()
    longer = [STAGES[0], {"name": "preferences", "train": {"max_steps": 5}}]
    made = recipe(*SHORT, stages=longer)
    assert training.train(made).steps == 5 and first.read_bytes() == before
    with pytest.raises(StateError, match=r"differs in stages.2.train.max_steps"):
        training.train(recipe(*SHORT, stages=STAGES))


def test_a_report_shows_each_stage_that_has_begun(recipe):
    made = recipe(*SHORT, stages=STAGES)
    trained_up_to_stage_2(made)
    folder = Path(made.output_dir)
    assert [run.label for run in read_runs([folder])] == ["01-sft"]
    training.train(made)
    first, last = read_runs([folder])
    assert (first.label, last.label) == ("01-sft", "02-preferences")
    assert (first.recipe.objective.name, last.recipe.objective.name) == ("sft", "dpo")
    assert len(first.records[0].steps.step) == 3 and len(last.records[0].steps.step) == 4


def test_a_recipe_without_the_stages_that_are_there_is_refused(recipe):
    trained_up_to_stage_2(recipe(*SHORT, stages=STAGES))
    with pytest.raises(StateError, match="differs in stages"):
        training.train(recipe(*SHORT))
    with pytest.raises(StateError, match=r"holds a run of other stages \(01-sft\)"):
        training.train(recipe(*SHORT, stages=["preferences", "preferences"]))


FAULTY = [
    {"name": "sft", "data": {"train": "nowhere.jsonl"}},
    {"name": "preferences", "objective": {"name": "beta_dpo"}, "train": {"micro_batch_size": 2},
     "data": {"max_length": 4096}},
]  # fmt: skip
FAULTS = (
    "stage 1, sft: nowhere.jsonl does not exist",
    "stage 2, preferences: train.micro_batch_size: got 2; with objective beta_dpo",
    "stage 2, preferences: data.max_length: got 4096; the model's context is 256",
)


def test_faults_of_all_stages_come_before_the_first_is_trained(recipe, tmp_path):
    made = recipe(*SHORT, stages=FAULTY)
    seen = []
    with pytest.raises(ConfigError) as error:
        training.train(made, listener=seen.append)
    assert [fault for fault in FAULTS if fault not in str(error.value)] == [] == seen
    path = tmp_path / "recipe.yaml"
    path.write_text(fastslow.config.dump_recipe(made))
    shown = CliRunner().invoke(app, ["validate", str(path)])
    assert str(shown.exception) == str(error.value)


def test_a_column_that_a_later_stage_lacks_is_missed_before_the_first_is_trained(recipe):
    made = recipe(*SHORT, stages=["sft", {"name": "preferences", "objective": {"name": "odpo"}}])
    with pytest.raises(
        DataError, match=r"(?s)stage 2, preferences: .*of the first .* score_chosen"
    ):
        training.train(made)
    assert not (Path(made.output_dir) / "stages").exists()


def test_demonstrations_of_their_own_come_first(recipe, tmp_path):
    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in tiny.rows(48, seed=9)]
    shown = tiny.write_rows(tmp_path / "shown.jsonl", rows)
    stages = [{"name": "sft", "data": {"train": str(shown), "eval": None}}, "preferences"]
    made = recipe(*SHORT, stages=stages)
    assert training.train(made).pairs_seen == 32
    first = json.loads((Path(made.output_dir) / "stages/01-sft/summary.json").read_text())
    assert first["pairs_seen"] == 32 and first["eval"] == {"start": None, "final": None}


def test_the_commands_know_a_run_in_stages_wherever_it_is_moved(recipe, tmp_path):
    made = recipe(*SHORT, stages=STAGES)
    summary = training.train(made)
    moved = tmp_path / "moved"
    shutil.move(made.output_dir, moved)
    run = CliRunner().invoke
    shown = run(app, ["eval", str(moved), "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["margin"] == summary.eval["final"]["margin"]
    shown = run(app, ["eval", str(moved), "--json", "--module", "reference"])
    assert json.loads(shown.stdout)["module"] == "previous"
    assert json.loads(shown.stdout)["margin"] == 0.0
    assert run(app, ["export", str(moved), "--to", str(tmp_path / "out")]).exit_code == 0
    assert run(app, ["report", str(moved)]).exit_code == 0
    shutil.rmtree(moved / "stages" / "01-sft")
    assert run(app, ["export", str(moved), "--to", str(tmp_path / "again")]).exit_code == 0
    shown = run(app, ["eval", str(moved)])
    assert isinstance(shown.exception, ConfigError)
    missing = "moved/stages/01-sft/adapters/policy holds no adapter"
    assert missing in str(shown.exception)
    shutil.rmtree(moved / "stages")
    shown = run(app, ["eval", str(moved)])
    assert isinstance(shown.exception, StateError)
    assert "02-preferences, the last part of the run" in str(shown.exception)


def test_validate_reads_the_data_of_every_stage(recipe, tmp_path):
    made = recipe(*SHORT, stages=STAGES)
    path = tmp_path / "recipe.yaml"
    path.write_text(fastslow.config.dump_recipe(made))
    shown = CliRunner().invoke(app, ["validate", str(path), "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert list(found) == [
        "stage 1, sft: train", "stage 1, sft: eval",
        "stage 2, preferences: train", "stage 2, preferences: eval", "warnings",
    ]  # fmt: skip
    assert "demonstrated tokens" in found["stage 1, sft: train"]
    assert "rejected tokens" in found["stage 2, preferences: train"]
