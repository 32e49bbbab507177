"""kill -9 at random moments, then the same command again: no bit of the result changes."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import fastslow

KILLS = 10
STEPS = 120


def start(recipe_path, output_dir):
    command = [sys.executable, "-m", "fastslow", "train", str(recipe_path)]
    return subprocess.Popen(
        [*command, f"output_dir={output_dir}"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )


def logged(folder: Path) -> int:
    path = folder / "events.jsonl"
    return path.read_bytes().count(b'"event": "step"') if path.exists() else 0


def adapter_hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("adapters/*/adapter_model.safetensors"))
    }


def test_ten_kills_at_random_moments_change_no_bit(recipe, tmp_path):
    draw = random.Random(time.time_ns())
    options = (
        f"train.max_steps={STEPS}", "train.epochs=20", "lora.dropout=0.1", "data.shuffle=16",
        "chase.swap_every=5", "eval.every=40", "checkpoint.every=3",
    )  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(fastslow.config.dump_recipe(recipe(*options)))
    whole = start(path, tmp_path / "whole")
    assert whole.wait() == 0, whole.stderr.read().decode()

    killed = tmp_path / "killed"
    moments = []
    for kill in range(KILLS):
        process = start(path, killed)
        # Let it come a random way further, then cut it off anywhere within a step or a write.
        target = (kill * STEPS) // KILLS + draw.randint(1, STEPS // KILLS)
        while process.poll() is None and logged(killed) < target:
            time.sleep(0.005)
        time.sleep(draw.random() * 0.2)
        process.kill()
        process.wait()
        moments.append(logged(killed))
    final = start(path, killed)
    _, errors = final.communicate()
    assert final.returncode == 0, errors.decode()
    assert len(adapter_hashes(killed)) == 2
    assert adapter_hashes(killed) == adapter_hashes(tmp_path / "whole"), f"killed at {moments}"
    assert logged(killed) == STEPS
    assert len(set(moments)) > KILLS // 2, f"the kills came too late to matter: {moments}"


def test_a_second_interrupt_stops_at_once(recipe, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(fastslow.config.dump_recipe(recipe("train.epochs=1000")))
    process = start(path, tmp_path / "run")
    while process.poll() is None and logged(tmp_path / "run") < 2:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) in (0, 130)
