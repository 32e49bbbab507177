"""What a run shows is not worth the run: nobody may be there to see it."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fork_server
import pytest
from rich.console import Console

from fastslow.cli.progress import RunDisplay
from fastslow.cli.run_text import next_commands
from fastslow.cli.streams import Silenced
from fastslow.cli.task_progress import ProgressLines
from fastslow.config import dump_recipe
from fastslow.training.loop.signals import StopSignals, StopToken


class Gone(io.StringIO):
    """A stream whose reader leaves after the first line."""

    def write(self, text):
        if self.getvalue():
            raise BrokenPipeError
        return super().write(text)

    flush = io.StringIO.flush


def test_a_stream_that_nobody_reads_falls_silent():
    stream = Silenced(Gone())
    for line in ("one\n", "two\n", "three\n"):
        assert stream.write(line) == len(line)
        stream.flush()
    assert stream.getvalue() == "one\n"


@pytest.mark.processes
def test_a_run_whose_display_has_gone_trains_to_its_end(recipe, tmp_path):
    made = recipe("train.max_steps=3", "data.eval=null")
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(made))
    read, write = os.pipe()
    os.close(read)  # Whatever is written to the other end now fails.
    command = [sys.executable, "-m", "fastslow", "train", str(path)]
    done = subprocess.run(command, stdout=write, stderr=write, timeout=120)
    os.close(write)
    assert done.returncode == 0
    assert json.loads((Path(made.output_dir) / "summary.json").read_text())["steps"] == 3


@pytest.mark.processes
@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGTERM"])
def test_every_signal_that_ends_a_run_leaves_a_checkpoint(recipe, tmp_path, name):
    made = recipe("train.epochs=1000", "data.eval=null", "checkpoint.every=100000")
    path, log = tmp_path / "recipe.yaml", Path(made.output_dir) / "events.jsonl"
    path.write_text(dump_recipe(made))
    process = fork_server.start("-m", "fastslow", "train", path)
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 2):
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    assert process.wait(60) == 3, process.stderr
    last = json.loads(log.read_text().splitlines()[-2])["step"]
    kept = [path.name for path in (Path(made.output_dir) / "checkpoints").iterdir()]
    assert kept == [f"step-{last:08d}"] and f"{name}: stopped after step {last}" in process.stderr


@pytest.mark.processes
@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGINT), (2, signal.SIGTERM)])
def test_a_signal_that_stops_several_trainings_is_said_at_once(recipe, tmp_path, workers, number):
    made = recipe("train.epochs=1000", "checkpoint.every=100000")
    path, runs = tmp_path / "recipe.yaml", Path(made.output_dir)
    path.write_text(dump_recipe(made))
    grid = "train.learning_rate=0.001,0.01,0.1"
    process = fork_server.start("-m", "fastslow", "sweep", path, grid, "--workers", str(workers))
    while process.poll() is None and len(list(runs.rglob("events.jsonl"))) < workers:
        time.sleep(0.01)
    time.sleep(1)
    process.send_signal(number)
    while process.poll() is None and "finishing what is under way" not in process.stderr:
        time.sleep(0.01)
    assert process.wait(60) == 3, process.stderr
    assert process.stderr.endswith("; rerun the command to resume\n")
    assert process.stderr.count(f"{number.name}: finishing what") == 1
    assert len(list(runs.rglob("checkpoints/step-*"))) == workers


def test_a_hangup_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals(StopToken(), lambda _: None) as token:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and not token.received
            os.kill(os.getpid(), signal.SIGUSR1)
            assert token.reason == "SIGUSR1"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_lines_come_now_and_then_and_at_the_end_of_what_takes_long(monkeypatch):
    said, now = [], [100.0]
    monkeypatch.setattr("fastslow.cli.task_progress.time.monotonic", lambda: now[0])
    lines = ProgressLines(said.append, every=10)
    for task, count, seconds in (("quick", 3, 1), ("slow", 30, 1), ("unknown", 12, 1)):
        for done in range(1, count + 1):
            now[0] += seconds
            lines(task, done, None if task == "unknown" else count)
    assert said == ["slow: 7/30", "slow: 17/30", "slow: 27/30", "slow: 30/30", "unknown: 10"]


def display():
    out = io.StringIO()
    return RunDisplay(Console(file=out, soft_wrap=True)), out


def step(modules):
    metrics = {"loss": 0.5, "accuracy": 1.0, "margin": 0.1, "pairs_per_s": 3.0}
    return {"event": "step", "step": 1, "leader": modules[0], "modules": dict.fromkeys(modules)} | (
        metrics
    )


@pytest.mark.parametrize(("modules", "says"), [(["policy"], False), (["fast", "slow"], True)])
def test_only_one_of_several_modules_leads(modules, says):
    shown, out = display()
    shown.show(step(modules))
    assert (f"{modules[0]} leads" in out.getvalue()) is says


def test_tasks_before_and_beside_the_training_are_lines_too():
    shown, out = display()
    shown._lines._every = 0
    for done in (1, 2):
        shown.show({"event": "progress", "task": "sampling", "done": done, "total": 2})
    assert out.getvalue() == "sampling: 1/2\nsampling: 2/2\n"


@pytest.mark.processes
def test_a_run_ends_by_naming_its_folder_and_what_can_be_done_with_it(recipe, tmp_path):
    made = recipe(
        "train.max_steps=1", "data.eval=null", f"output_dir={tmp_path / 'my run'}", chase=None
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(made))
    done = fork_server.run("-m", "fastslow", "train", path)
    folder = f"'{tmp_path / 'my run'}'"
    assert done.stderr.splitlines()[-1] == (
        f"run folder: {tmp_path / 'my run'}; next: fastslow sample {folder} 'PROMPT', "
        f"fastslow eval {folder} --data HELD_OUT_PAIRS, fastslow report {folder}"
    )
    assert "lead" not in done.stderr


def test_a_run_with_held_out_pairs_can_be_measured_as_it_is():
    assert next_commands("run", "policy", held_out=True) == (
        "fastslow sample run 'PROMPT', fastslow eval run, fastslow report run"
    )
    assert next_commands("run", "reward", held_out=False) == (
        "fastslow eval run --data HELD_OUT_PAIRS, fastslow report run"
    )


def test_warnings_of_the_start_are_in_the_log_once(recipe):
    from fastslow import training

    made = recipe(
        "train.max_steps=4", "data.eval=null", "checkpoint.every=2", chase=None,
        moving_reference={"every": 100, "share": 1.0},
    )  # fmt: skip

    def listener(event):
        if event["event"] == "checkpoint" and event["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(made, listener=listener)
    told = []
    training.train(made, listener=lambda e: told.append(e) if e["event"] == "warning" else None)
    lines = (Path(made.output_dir) / "events.jsonl").read_text().splitlines()
    logged = [event for event in map(json.loads, lines) if event["event"] == "warning"]
    assert logged == told and "the reference never moves" in logged[0]["message"]
