"""A run folder says which commands made it."""

import shlex
import sys

import pytest

from fastslow.reports import write_report
from fastslow.training import train


@pytest.fixture
def command(monkeypatch):
    """Make this process the command of these arguments."""
    return lambda *arguments: monkeypatch.setattr(sys, "argv", ["/bin/fastslow", *arguments])


def lines(recipe):
    path = f"{recipe.output_dir}/commands.txt"
    with open(path, encoding="utf-8") as file:
        return [shlex.split(line) for line in file]


def test_each_command_that_made_a_run_is_kept_once(recipe, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = recipe("train.max_steps=2", "train.schedule=constant", "eval.num_prompts=0")
    command("train", "my recipe.yaml", "train.max_steps=2")
    train(short)
    train(short)
    command("train", "my recipe.yaml")
    longer = short.model_copy(update={"train": short.train.model_copy(update={"max_steps": 3})})
    train(longer)
    start = ["cd", str(tmp_path), "&&", "fastslow", "train", "my recipe.yaml"]
    assert lines(short) == [[*start, "train.max_steps=2"], start]


def test_a_report_shows_them(recipe, command, tmp_path):
    made = recipe("train.max_steps=1", "eval.num_prompts=0")
    command("train", "recipe.yaml", "data.domain=<b>")
    train(made)
    page = write_report([made.output_dir], tmp_path / "page.html").read_text()
    assert "fastslow train recipe.yaml &#39;data.domain=&lt;b&gt;&#39;" in page


def test_python_leaves_none(recipe, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mine.py"])
    made = recipe("train.max_steps=1", "eval.num_prompts=0")
    train(made)
    with pytest.raises(FileNotFoundError):
        lines(made)
