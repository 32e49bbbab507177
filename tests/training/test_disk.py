"""A disk that is full, a folder that goes away, names that cannot be: one error, nothing lost."""

import errno
import json
import os
import shutil
from pathlib import Path

import fork_server
import pytest
import tiny
from safetensors import SafetensorError

import fastslow
from fastslow import training
from fastslow.atomic_io import new_folder, write_text
from fastslow.disk_errors import disk_error, disk_errors
from fastslow.errors import ConfigError, StateError
from fastslow.training.state.checkpoint import read_newest


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (errno.ENOSPC, StateError, "No space left on device; free some space"),
        (errno.EDQUOT, StateError, "quota"),
        (errno.EFBIG, StateError, "ulimit -f"),
        (errno.EIO, StateError, "check the disk"),
        (errno.EROFS, ConfigError, "Read-only file system; choose another place"),
        (errno.EACCES, ConfigError, "Permission denied; choose another place"),
        (errno.ENAMETOOLONG, ConfigError, "choose a shorter name"),
        (errno.ENOTDIR, ConfigError, "a part of this path is a file"),
    ],
)
def test_what_the_disk_refuses_is_one_error_that_says_what_to_do(tmp_path, number, kind, says):
    path = tmp_path / "a.json"
    raised = [OSError(number, os.strerror(number))]
    raised.append(SafetensorError(f"I/O error: {os.strerror(number)} (os error {number})"))
    raised.append(shutil.Error([("a", "b", f"[Errno {number}] {os.strerror(number)}: 'b'")]))
    for error in raised:
        with pytest.raises(kind) as caught, disk_errors(path):
            raise error
        assert str(path) in str(caught.value) and says in str(caught.value)
        assert "\n" not in str(caught.value)


def test_what_has_nothing_to_do_with_the_place_is_left_alone(tmp_path):
    source = tmp_path / "elsewhere" / "adapter.safetensors"
    for error in (FileNotFoundError(errno.ENOENT, "no", str(source)), SafetensorError("header")):
        with pytest.raises(type(error)) as caught, disk_errors(tmp_path / "here" / "a"):
            raise error
        assert caught.value is error
    assert disk_error(OSError("odd")) is None


def test_nothing_is_left_of_what_could_not_be_written(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("before")
    with pytest.raises(ConfigError, match="shorter name"):
        write_text(tmp_path / ("a" * 300), "text")
    with monkeypatch.context() as patch, pytest.raises(StateError, match=r"a\.json .*No space"):
        full = OSError(errno.ENOSPC, "full")
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(full))
        write_text(tmp_path / "a.json", "after")
    with pytest.raises(StateError, match="folder .*No space"), new_folder(tmp_path / "folder"):
        raise OSError(errno.ENOSPC, "full")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "before"


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = ["fastslow", "train", *sys.argv[2:]]
from fastslow.cli.main import run
run()
"""


@pytest.mark.processes
@pytest.mark.parametrize("most", [1000, 5000, 20000])
def test_a_run_that_can_write_no_more_says_so_in_one_line_and_resumes(recipe, tmp_path, most):
    """The limit of file sizes cuts off the log, a checkpoint's JSON or its tensors."""
    made = recipe("train.max_steps=6", "checkpoint.every=2", "data.eval=null")
    path = tmp_path / "recipe.yaml"
    path.write_text(fastslow.config.dump_recipe(made))
    done = fork_server.run("-c", LIMITED, most, path)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert last.startswith(f"error: {made.output_dir}") and "ulimit -f" in last
    assert not list(Path(made.output_dir).rglob("*.draft"))
    training.train(made)
    whole = recipe(f"output_dir={tmp_path / 'whole'}", "train.max_steps=6", "data.eval=null")
    training.train(whole)
    assert tiny.same(tiny.adapters(made.output_dir), tiny.adapters(whole.output_dir))


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_removed_under_a_run_ends_it_at_the_next_checkpoint(recipe, replaced):
    made = recipe("train.max_steps=6", "checkpoint.every=2")
    steps = []

    def listener(event):
        if event["event"] == "step":
            steps.append(event["step"])
        if steps == [1, 2, 3] and Path(made.output_dir).exists():
            shutil.rmtree(made.output_dir)
            if replaced:
                Path(made.output_dir).mkdir()
            steps.append("removed")

    with pytest.raises(StateError, match="was removed or replaced"):
        training.train(made, listener=listener)
    assert steps == [1, 2, 3, "removed", 4]
    left = list(Path(made.output_dir).rglob("*")) if replaced else Path(made.output_dir).exists()
    assert not left
    assert training.train(made).steps == 6


def test_a_folder_that_is_removed_between_two_stages_is_no_finished_run(recipe):
    made = recipe("train.max_steps=2", "stages=[sft, preferences]")

    def listener(event):
        if event["event"] == "stage" and event["number"] == 2:
            shutil.rmtree(made.output_dir)

    with pytest.raises(StateError):
        training.train(made, listener=listener)


def test_a_log_that_is_shorter_than_its_checkpoint_remembers_is_refused(recipe):
    made = recipe("train.max_steps=4", "checkpoint.every=2")

    def listener(event):
        if event["event"] == "checkpoint" and event["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(made, listener=listener)
    log = Path(made.output_dir) / "events.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StateError, match=rf"events.jsonl has \d+ bytes, but {len(whole)} belong"):
        training.train(made)
    snapshot, _ = read_newest(Path(made.output_dir) / "checkpoints")
    assert snapshot.facts["step"] == 2 and len(log.read_bytes()) == len(whole) // 2
    log.write_bytes(whole)
    assert training.train(made).steps == 4
    assert all(json.loads(line) for line in log.read_text().splitlines())


@pytest.mark.processes
def test_a_report_that_cannot_be_written_is_a_wrong_request(recipe, tmp_path):
    made = recipe("train.max_steps=1", "data.eval=null")
    training.train(made)
    for to in (tmp_path / ("x" * 300), Path(made.output_dir) / "config.yaml" / "report.html"):
        done = fork_server.run("-m", "fastslow", "report", made.output_dir, "--to", to)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def test_of_two_who_write_one_new_folder_the_first_keeps_it(tmp_path):
    to = tmp_path / "out"
    with (
        pytest.raises(ConfigError, match="out exists already"),
        new_folder(to, replace=False) as first,
        new_folder(to, replace=False) as second,
    ):
        (second / "file").write_text("second")
        (first / "file").write_text("first")
    assert (to / "file").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
