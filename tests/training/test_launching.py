"""As many processes train as the launcher announced, in one folder, or none do."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import fork_server
import pytest
import torch
from two import TRAIN, WHOLE, events, free_port, in_two, wait_for, written

from fastslow import training
from fastslow.config import EnsembleJudgeConfig, RewardModelJudgeConfig
from fastslow.errors import ConfigError
from fastslow.judges import make_judge
from fastslow.training.distributed.launcher import check_announced
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.distributed.scratch import PREFIX, scratch_copy

LAUNCHED = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "True"}


@pytest.mark.parametrize(
    ("environment", "size", "refused"),
    [
        ({}, 1, None),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "a"}, 2, None),
        ({"WORLD_SIZE": "1", "MASTER_ADDR": "a"} | LAUNCHED, 1, None),
        ({"MASTER_ADDR": "a"}, 1, None),  # A cluster's own settings, without a launcher.
        (LAUNCHED, 1, None),
        ({"WORLD_SIZE": "2"}, 1, "it announced 2 processes, but 1 has joined"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, 1, "it announced 4 processes"),
        ({"PMI_SIZE": "8"}, 2, "it announced 8 processes, but 2 have joined"),
        ({"MASTER_ADDR": "127.0.0.1"} | LAUNCHED, 1, "accelerate was asked for several"),
    ],
)
def test_no_process_trains_alone_where_several_were_announced(
    monkeypatch, environment, size, refused
):
    for name in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MASTER_ADDR", *LAUNCHED):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if refused is None:
        check_announced(size)
        return
    with pytest.raises(
        ConfigError, match=f"launcher: {refused}.*\\. To train in 2 processes: torchr"
    ):
        check_announced(size)


@pytest.mark.slow
def test_accelerates_launcher_that_starts_one_of_two_is_refused(recipe, tmp_path):
    path = written(recipe("train.max_steps=1"))
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    command = [sys.executable, *launch, "-m", "fastslow", "train", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0 and "error: launcher: accelerate was asked" in done.stderr
    assert not (tmp_path / "run" / "events.jsonl").exists()


@pytest.mark.processes
def test_a_start_says_how_many_processes_on_how_many_machines(recipe):
    script = """
import json, sys
from fastslow import training
training.train(sys.argv[1], listener=lambda e: e["event"] == "start" and print(
    "RESULT", json.dumps([e["processes"], e["machines"]])))
"""
    first, second = in_two(script, written(recipe("train.max_steps=1")), **WHOLE)
    assert first == [[2, 1]] and second == []


@pytest.mark.processes
def test_machines_without_a_shared_folder_are_refused_in_one_line(recipe, tmp_path):
    made = recipe("output_dir=run", "train.max_steps=1")
    path = tmp_path / "recipe.yaml"
    written(made.model_copy(update={"output_dir": str(tmp_path / "recipe")}))
    path.write_text(path.read_text().replace(str(tmp_path / "recipe"), "run"))
    started = []
    common = os.environ | WHOLE | {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())
    }  # fmt: skip
    for rank in (0, 1):
        folder = tmp_path / f"machine-{rank}"
        (folder / "run").mkdir(parents=True)  # There, but another one.
        ranks = {"RANK": str(rank), "LOCAL_RANK": "0"}
        started.append(fork_server.start("-c", TRAIN, 0, path, env=common | ranks, cwd=folder))
    wait_for(*started)
    for process in started:
        assert "ConfigError: output_dir: process 1 does not see run of the main" in process.stdout
        assert "Traceback" not in process.stderr
    assert not list((tmp_path / "machine-0" / "run").glob(".seen*"))


def test_copies_that_killed_processes_left_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("model: x")
    script = f"""
import os, signal, tempfile
from pathlib import Path
from fastslow.training.distributed.scratch import scratch_copy
tempfile.tempdir = {str(tmp_path)!r}
with scratch_copy(Path({str(tmp_path / "run")!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], timeout=100)
    assert len(list(tmp_path.glob(f"{PREFIX}*"))) == 2  # The copy and its lock.
    with scratch_copy(tmp_path / "run") as first:
        assert (first / "config.yaml").read_text() == "model: x"
        assert len(list(tmp_path.glob(f"{PREFIX}*"))) == 2
        with scratch_copy(tmp_path / "run") as second:  # One in use stays.
            assert first.exists() and second.exists() and first != second
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_device_that_is_settled_is_not_changed(monkeypatch):
    ProcessGroup("cpu")
    monkeypatch.setattr(ProcessGroup, "device", property(lambda self: torch.device("cuda")))
    with pytest.raises(ConfigError, match="train.device: got 'cpu', but this process has begun"):
        ProcessGroup("cpu")


def test_a_run_may_resume_on_another_device(recipe):
    def listener(event):
        if event["event"] == "checkpoint":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(recipe("train.max_steps=4", "checkpoint.every=2"), listener=listener)
    made = recipe("train.max_steps=4", "checkpoint.every=2", "train.device=cpu")
    assert training.train(made).steps == 4
    assert len(events(made.output_dir)) > 4 and Path(made.output_dir).is_dir()


def test_a_judge_that_is_a_model_leaves_the_gpu_alone_too(monkeypatch, model_folder):
    placed = []

    def loaded(folder, *, base, device):
        placed.append(device.type)
        raise ConfigError("far enough")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("fastslow.adapters.load_reward_model", loaded)
    member = RewardModelJudgeConfig(kind="reward_model", folder=str(model_folder))
    both = EnsembleJudgeConfig(kind="ensemble", members=[member, member])
    for config in (member, both):
        for device in ("cpu", "auto"):
            with pytest.raises(ConfigError, match="far enough"):
                make_judge(config, device=device)
    assert placed == ["cpu", "cuda"] * 2
