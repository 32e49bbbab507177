"""`fastslow eval --with`: what holds for every tool."""

import os

import pytest

import fastslow as fs
from fastslow.errors import StateError


def test_options_of_tools_are_refused_without_one_and_those_of_pairs_with_one(run, cli):
    code, _, err = cli("eval", run.folder, "--temperature", "1", "--read")
    assert code == 2 and "temperature: has an effect only with --with" in err and "read:" in err
    code, _, err = cli("eval", run.folder, "data.eval=held.jsonl")
    assert code == 2 and "arguments: has an effect only with --with" in err
    assert "as --data FILE" in err
    code, _, err = cli("eval", run.folder, "--with", "lm-eval", "--num-prompts", "2")
    assert code == 2 and "num_prompts: has no effect with --with" in err


def test_an_unfinished_run_is_refused(run):
    (run.folder / "summary.json").unlink()
    with pytest.raises(StateError, match="is not finished"):
        fs.evaluate_with(run.folder, "lm-eval")


def test_nothing_is_written_through_a_link(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", run.folder / "benchmarks")
    with pytest.raises(StateError, match="is a link"):
        fs.evaluate_with(run, "lm-eval")
    assert not any((tmp_path / "elsewhere").iterdir())


def test_reading_before_there_is_anything_says_what_to_do(run):
    with pytest.raises(StateError, match="without --read first"):
        fs.evaluate_with(run, "lm-eval", read=True)
