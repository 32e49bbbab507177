"""A moving reference: by how much, after whom, and what stays measured against the start."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from fastslow import training
from fastslow.cli.main import app
from fastslow.errors import ConfigError
from fastslow.training.state.checkpoint import read_newest

EVERY_STEP = ("checkpoint.every=1", "checkpoint.keep=20", "eval.num_prompts=0")


def modules_at(folder, step):
    """Tensors of each module in a checkpoint, by module and then by place."""
    found = {}
    path = Path(folder) / "checkpoints" / f"step-{step:08d}" / "modules.safetensors"
    for key, value in load_file(path).items():
        name = next(part for part in ("reference", "policy", "fast", "slow") if f".{part}." in key)
        found.setdefault(name, {})[key.replace(f".{name}.", ".")] = value
    return found


def events(folder, kind):
    lines = (Path(folder) / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def moving(every, share):
    return (f"moving_reference.every={every}", f"moving_reference.share={share}")


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_its_tensors_change_by_the_stated_amount_and_only_when_due(recipe, share):
    made = recipe("chase=null", "train.max_steps=5", *moving(2, share), *EVERY_STEP)
    training.train(made)
    at = [modules_at(made.output_dir, step) for step in range(1, 6)]
    start = {k: v for k, v in at[0]["reference"].items() if ".lora_B." in k}
    assert start and not any(value.any() for value in start.values())
    for before, after, step in zip(at, at[1:], range(2, 6), strict=False):
        for key, value in after["reference"].items():
            due = step % 2 == 0
            wanted = before["reference"][key].lerp(after["policy"][key], share if due else 0.0)
            assert torch.equal(value, wanted), (step, key)
    moved = [not torch.equal(at[0]["reference"][k], at[1]["reference"][k]) for k in start]
    assert all(moved)


def test_it_goes_after_the_leader_of_a_race(recipe):
    wild = ("train.learning_rate=0.4", "chase.swap_every=2", "train.schedule=constant")
    made = recipe("train.max_steps=10", "budget=null", *wild, *moving(1, 1.0), *EVERY_STEP)
    training.train(made)
    leaders = {}
    for step in range(1, 11):
        at = modules_at(made.output_dir, step)
        same = {
            name: all(torch.equal(at[name][k], v) for k, v in at["reference"].items())
            for name in ("fast", "slow")
        }
        leaders[step] = next(name for name, is_it in same.items() if is_it)
    after_swaps = {event["step"]: event["leader"] for event in events(made.output_dir, "swap")}
    assert after_swaps and all(leaders[step] == name for step, name in after_swaps.items())
    assert set(leaders.values()) == {"fast", "slow"}


def test_a_reference_that_is_the_policy_each_time_keeps_the_first_loss(recipe):
    made = recipe("chase=null", "train.max_steps=4", "eval.num_prompts=2", *moving(1, 1.0))
    summary = training.train(made)
    losses = [event["loss"] for event in events(made.output_dir, "step")]
    assert losses == pytest.approx([math.log(2)] * 4, abs=1e-6)
    # What is held out is measured against the start, so the way gone is seen.
    assert summary.eval["final"]["margin"] > 0.1
    assert summary.eval["final"]["reverse_kl"] not in (None, 0)
    assert summary.reference == "base"


def test_before_its_first_move_the_run_is_one_without_it(recipe, tmp_path):
    found = []
    for name, extra in (("still", ()), ("moving", moving(100, 1.0))):
        folder = tmp_path / name
        training.train(recipe(f"output_dir={folder}", "train.max_steps=4", *extra))
        files = sorted(folder.glob("adapters/*/adapter_model.safetensors"))
        assert len(files) == 2  # The reference is not among the results.
        found.append([path.read_bytes() for path in files])
    assert found[0] == found[1]


def test_resuming_is_as_if_never_stopped(recipe, tmp_path):
    options = ("train.max_steps=9", "lora.dropout=0.2", "eval.num_prompts=2", *moving(2, 0.5))
    whole = recipe(f"output_dir={tmp_path / 'whole'}", *options)
    expected = training.train(whole)
    broken = recipe(f"output_dir={tmp_path / 'broken'}", *options)

    def stop(event):
        if event["event"] == "step" and event["step"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(broken, listener=stop)
    assert training.train(broken).eval == expected.eval
    for name in ("fast", "slow"):
        one, other = (
            load_file(f"{run.output_dir}/adapters/{name}/adapter_model.safetensors")
            for run in (whole, broken)
        )
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_from_an_adapter_it_begins_there_while_the_anchor_stays(recipe, tmp_path):
    first = recipe(f"output_dir={tmp_path / 'first'}", "chase=null", "train.max_steps=3")
    training.train(first)
    start = Path(first.output_dir) / "adapters" / "policy"
    second = recipe(
        f"output_dir={tmp_path / 'second'}", f"lora.start_from={start}", "train.max_steps=3",
        "chase=null", *moving(1, 1.0), *EVERY_STEP,
        lora={}, anchor={"strength": 0.1},
    )  # fmt: skip
    summary = training.train(second)
    losses = [event["loss"] for event in events(second.output_dir, "step")]
    assert losses == pytest.approx([math.log(2)] * 3, abs=1e-6)
    assert summary.reference == "previous" and summary.eval["final"]["margin"] != 0


@pytest.mark.parametrize(("every", "warned"), [(4, False), (5, True)])
def test_one_that_will_not_move_is_told(recipe, every, warned):
    seen = []
    training.train(recipe("train.max_steps=4", *moving(every, 1.0)), listener=seen.append)
    told = [event["message"] for event in seen if event["event"] == "warning"]
    assert told == ["the reference never moves: moving_reference.every is 5, but the run has 4 "
                    "steps"] * warned  # fmt: skip


def test_held_out_losses_do_not_use_statistics_of_gaps_to_a_reference_that_moved(recipe):
    """alpha_dpo's are of gaps to the moving reference; held-out gaps are to the start."""
    made = recipe("train.max_steps=4", "objective.name=alpha_dpo", *moving(2, 1.0))
    summary = training.train(made)
    assert summary.running == {} and summary.eval["final"]["margin"] != 0
    measured = CliRunner().invoke(app, ["eval", made.output_dir, "--json"])
    assert json.loads(measured.stdout)["loss"] == summary.eval["final"]["loss"]
    state = read_newest(Path(made.output_dir) / "checkpoints")[0].facts["running"]
    assert all(of_module["weight"] > 0 for of_module in state.values())


def test_what_it_cannot_do_is_refused(recipe, continual, tmp_path):
    with pytest.raises(ConfigError, match="simpo has no reference; set it to null"):
        training.train(recipe("objective.name=simpo", *moving(1, 1.0)))
    with pytest.raises(ConfigError, match="moving_reference: begins at the adapter"):
        recipe("lora.start_from=x", "reference=base", *moving(1, 1.0), lora={})
    with pytest.raises(ConfigError, match="set reference: previous"):
        continual("moving_reference.every=1", start="continue")
    with pytest.raises(ConfigError, match="moving_reference.share: got 0"):
        recipe("moving_reference.share=0")
