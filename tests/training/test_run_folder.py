"""A run's folder: what was refused leaves none behind."""

from pathlib import Path

import pytest

from fastslow import training
from fastslow.errors import ConfigError, DataError
from fastslow.training.state.run_lock import lock_run_folder


@pytest.fixture
def refused(recipe, tmp_path):
    """Begins a run whose data are empty, in a folder, and is refused."""
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")

    def begin(folder):
        made = recipe(f"data.train={empty}", f"output_dir={folder}")
        with pytest.raises(DataError):
            training.train(made)

    return begin


def test_a_refused_run_leaves_no_folder_behind(refused, tmp_path):
    refused(tmp_path / "runs" / "mine")
    assert not (tmp_path / "runs").exists()


def test_folders_that_were_there_stay(refused, tmp_path):
    folder = tmp_path / "runs" / "mine"
    folder.parent.mkdir()
    (folder.parent / "other").mkdir()
    refused(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["other"]
    folder.mkdir()
    refused(folder)
    assert folder.is_dir()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_file_system_without_new_folders_is_told_so():
    with (
        pytest.raises(ConfigError, match="/proc/x is not writable: no folder can be created there"),
        lock_run_folder(Path("/proc/x")),
    ):
        pass


def test_what_was_written_before_an_error_stays(tmp_path):
    folder = tmp_path / "runs" / "mine"
    with pytest.raises(KeyboardInterrupt), lock_run_folder(folder):
        (folder / "config.yaml").write_text("")
        raise KeyboardInterrupt
    assert (folder / "config.yaml").exists()
