"""Labels that come late: tested when shown, learned when the label is there."""

import json
import math

import pytest

from fastslow import training
from fastslow.errors import ConfigError


def steps(folder):
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "step"]


def test_a_delay_changes_what_is_tested_and_not_what_is_learned(recipe, tmp_path):
    at_once = training.train(recipe(f"output_dir={tmp_path / 'at-once'}"))
    late = training.train(recipe(f"output_dir={tmp_path / 'late'}", "data.label_delay=24"))
    for name in at_once.adapters:
        assert at_once.hashes[f"adapter/{name}"] == late.hashes[f"adapter/{name}"]
    assert late.prequential["loss"] > at_once.prequential["loss"]


def test_the_whole_stream_ahead_is_tested_by_the_untrained_policy(recipe):
    late = training.train(recipe("data.label_delay=1000"))
    assert late.prequential == {"accuracy": 0.5, "loss": pytest.approx(math.log(2), abs=1e-6)}


def test_the_test_of_a_delayed_batch_is_that_of_the_policy_some_steps_earlier(recipe, tmp_path):
    """With all pairs alike, a batch tested k steps early loses what the one k steps before lost."""
    row = {"prompt": "Describe the road.", "chosen": "It is calm.", "rejected": "It is grim."}
    same = tmp_path / "same.jsonl"
    same.write_text((json.dumps(row) + "\n") * 48)
    settings = (f"data.train={same}", "chase=null", "train.schedule=constant")
    training.train(recipe(f"output_dir={tmp_path / 'at-once'}", *settings))
    losses = [step["loss"] for step in steps(tmp_path / "at-once")]
    late = training.train(
        recipe(f"output_dir={tmp_path / 'late'}", "data.label_delay=16", *settings)
    )
    # Six batches: three are shown before anything is learned, then one before each update.
    shown = [losses[0]] * 3 + losses[1:4]
    assert late.prequential["loss"] == pytest.approx(sum(shown) / 6, abs=1e-6)


def test_a_stopped_run_with_a_delay_ends_the_same(recipe, tmp_path):
    whole = training.train(recipe(f"output_dir={tmp_path / 'whole'}", "data.label_delay=16"))
    part = recipe(f"output_dir={tmp_path / 'part'}", "data.label_delay=16", "checkpoint.every=1")

    class Cut(Exception):
        pass

    def cut(event):
        if event["event"] == "checkpoint" and event["step"] == 5:
            raise Cut

    with pytest.raises(Cut):
        training.train(part, listener=cut)
    again = training.train(part)
    assert again.prequential == whole.prequential
    assert {k: v for k, v in again.hashes.items() if k.startswith("adapter")} == {
        k: v for k, v in whole.hashes.items() if k.startswith("adapter")
    }


def test_standard_input_cannot_be_shown_ahead(recipe):
    with pytest.raises(ConfigError) as error:
        recipe("data.label_delay=8", "data.train=-")
    assert "data.label_delay" in str(error.value)
