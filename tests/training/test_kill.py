"""kill -9 at random moments, then the same command again: no bit of the result changes."""

import hashlib
import json
import os
import random
import signal
import time
from pathlib import Path

import fork_server
import pytest
from kills import end_state, kill_often, kinds

import fastslow
from fastslow import training

pytestmark = pytest.mark.processes

STEPS_PER_KILL = 6
KINDS = 24


def start(recipe_path, output_dir, **settings):
    command = ("-m", "fastslow", "train", recipe_path, f"output_dir={output_dir}")
    return fork_server.start(*command, **settings)


def logged(folder: Path) -> int:
    path = folder / "events.jsonl"
    return path.read_bytes().count(b'"event": "step"') if path.exists() else 0


def adapter_hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("adapters/*/adapter_model.safetensors"))
    }


def test_kills_at_random_moments_change_no_bit(recipe, tmp_path):
    kills = 6 if fork_server.COLD else 3
    steps, cold = kills * STEPS_PER_KILL, kills // 2  # One of a process that started by itself.
    draw = random.Random(time.time_ns())
    options = (
        f"train.max_steps={steps}", "train.epochs=20", "lora.dropout=0.1", "data.shuffle=16",
        "chase.swap_every=5", "eval.every=10", "eval.num_prompts=2", "checkpoint.every=3",
    )  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(fastslow.config.dump_recipe(recipe(*options)))
    whole = start(path, tmp_path / "whole")
    assert whole.wait() == 0, whole.stderr

    killed = tmp_path / "killed"
    moments = []
    for kill in range(kills):
        process = start(path, killed, cold=kill == cold)
        # Let it come a random way further, then cut it off anywhere within a step or a write.
        target = kill * STEPS_PER_KILL + draw.randint(1, STEPS_PER_KILL)
        while process.poll() is None and logged(killed) < target:
            time.sleep(0.005)
        time.sleep(draw.random() * 0.2)
        process.kill()
        process.wait()
        moments.append(logged(killed))
    final = start(path, killed)
    assert final.wait() == 0, final.stderr
    assert len(adapter_hashes(killed)) == 2
    assert adapter_hashes(killed) == adapter_hashes(tmp_path / "whole"), f"killed at {moments}"
    assert logged(killed) == steps
    assert len(set(moments)) > kills // 2, f"the kills came too late to matter: {moments}"


def test_a_second_interrupt_stops_at_once(recipe, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(fastslow.config.dump_recipe(recipe("train.epochs=1000")))
    process = start(path, tmp_path / "run")
    while process.poll() is None and logged(tmp_path / "run") < 2:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) in (3, 130)


# Imports once; each attempt is a process of its own that cuts itself off at an event, or is cut off
# from outside after some seconds.
ATTEMPTS = """
import json, os, signal, sys, time
from fastslow import training
from fastslow.training.continual import merge_weights
merge_weights.STEPS = 8
recipe, moments = sys.argv[1], json.loads(sys.argv[2])
for moment in moments:
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        def cut(event):
            if moment["at"] and moment["at"].items() <= event.items():
                os.kill(os.getpid(), signal.SIGKILL)
        code = 1
        try:
            training.train(recipe, listener=cut)
            code = 0
        finally:
            os._exit(code)
    if moment["after"] is not None:
        time.sleep(moment["after"])
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([code, time.monotonic() - began]), flush=True)
"""
FITTING = {"event": "progress", "task": "fitting merge weights", "total": 8}
MOMENTS = [
    {"event": "eval", "moment": "start"},
    {"event": "step", "step": 3},
    {"event": "complete"},
    {"event": "combining", "modules": 1},
    FITTING | {"done": 4},
    {"event": "measured", "label": "base"},
    {"event": "measured", "label": "after warm"},
    {"event": "domain", "number": 2},
    {"event": "step", "step": 3},
    {"event": "checkpoint"},
    {"event": "eval", "moment": "final"},
    {"event": "combining", "modules": 2},
    FITTING | {"done": 8},
    {"event": "measured", "label": "after cold"},
]


def attempts(path, moments):
    """Exit codes and seconds of attempts, each going on where the one before was cut."""
    given = [{"at": None, "after": None} | moment for moment in moments]
    done = fork_server.run("-c", ATTEMPTS, path, json.dumps(given))
    assert done.returncode == 0, done.stderr
    codes, seconds = zip(*map(json.loads, done.stdout.splitlines()), strict=True)
    return list(codes), list(seconds), done.stderr


def test_kills_in_and_between_domains_change_no_bit(continual, tmp_path):
    chosen = MOMENTS if fork_server.COLD else MOMENTS[1::5]
    path = tmp_path / "recipe.yaml"
    made = continual(
        "chase={}", "chase.swap_every=2", "lora.dropout=0.1", "data.shuffle=8",
        "eval.num_prompts=2",
        start="continue", weights="learned", replay=0.25, anchor="ewc",
    )  # fmt: skip
    path.write_text(fastslow.config.dump_recipe(made))
    folder = Path(made.output_dir)
    codes, [length], errors = attempts(path, [{}])
    assert codes == [0], errors
    # In the same place, as recipes and manifests name the folders they are of.
    whole = folder.rename(tmp_path / "whole")
    codes, _, errors = attempts(path, [{"at": moment} for moment in chosen] + [{}])
    assert codes == [-signal.SIGKILL] * len(chosen) + [0], errors
    expected, found = end_state(whole), end_state(folder)
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []
    assert len([n for n in found if n.endswith("adapter_model.safetensors")]) == 9
    assert {"fisher/01.safetensors", "measurements/02.json", "samples.json"} <= found.keys()
    assert json.loads((folder / "samples.json").read_text())

    if not fork_server.COLD:
        return

    # And once more at moments that nobody chose, within what the run takes on this machine.
    folder.rename(tmp_path / "cut")
    draw = random.Random(time.time_ns())
    delays = [draw.uniform(0.05, 0.5) * length for _ in range(4)]
    codes, _, errors = attempts(path, [{"after": delay} for delay in delays] + [{}])
    assert codes[-1] == 0 and codes[0] == -signal.SIGKILL, errors
    assert end_state(folder) == expected, f"killed after {delays}"


@pytest.mark.slow
@pytest.mark.parametrize("place", range(KINDS))
def test_kills_at_seeded_moments_change_nothing_that_a_run_leaves(tmp_path, place):
    """`python tests/kills.py --kills 200 --to FILE` does so with more."""
    recipes = kinds(tmp_path)
    assert len(recipes) == KINDS
    name, raw = list(recipes.items())[place]
    own = tmp_path / "killed"
    own.mkdir()
    found = kill_often(own, name, raw, kills=2, seed=0)
    assert found["kills"] == 2 and found["differing"] == [], f"{name}: {found}"


@pytest.mark.parametrize(
    ("kind", "module"), [("rounds", "rounds"), ("domains combined", "continual.sequence")]
)
def test_a_run_that_is_cut_off_before_its_first_part_begins_again(
    tmp_path, monkeypatch, kind, module
):
    raw = kinds(tmp_path)[kind] | {"output_dir": str(tmp_path / "run")}

    def cut(*_, **__):
        raise KeyboardInterrupt

    inputs, config = "state.inputs.write_text", f"{module}.write_config"
    for written in (inputs, config):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(f"fastslow.training.{written}", cut)
            training.train(raw)
    seen = []
    with pytest.raises(KeyboardInterrupt):
        training.train(raw, listener=lambda e: cut() if e["event"] == "step" else seen.append(e))
    assert "start" in [event["event"] for event in seen]
