"""What `fastslow bench` refuses before anything is made."""

import pytest
from typer.testing import CliRunner

from fastslow.cli.main import app
from fastslow.errors import ConfigError

FILES = ("--data", "d", "--model", "m", "--recipe", "r.yaml")


@pytest.mark.parametrize(
    "given",
    [("--model", "m"), ("--recipe", "r.yaml"), ("--data", "d"), ("--data", "d", "--model", "m")],
)
@pytest.mark.parametrize("command", ["objectives", "continual"])
def test_files_need_a_model_and_a_recipe(tmp_path, command, given):
    shown = CliRunner().invoke(app, ["bench", command, str(tmp_path / "out"), *given])
    assert isinstance(shown.exception, ConfigError) and "belong together" in str(shown.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["objectives", "out", "--objective", "dop"], "objective.name: got 'dop'"),
        (["objectives", "out", "--objective", "dpo bta=1"], "dpo has no such setting"),
        (["continual", "out", "--method", "coffs"], "method: got coffs"),
        (["online", "out", "--method", "grpo"], "method: got grpo; allowed are dpo, hypo"),
        (["online", "out", *FILES, "--method", "dpo, narrow pairs"], "got dpo, narrow"),
        (["chasing", "out", "--optimizer", "adam"], "optimizer: got 'adam'"),
        (["objectives", "out", "--rate", "-1"], "--rate: got -1; must be above 0"),
        (["continual", "out", "--seeds", "2"], "--seeds: no effect without --data"),
        (["objectives", "out", *FILES, "--rate", "0.1"], "--rate: no effect with --data"),
        (["continual", "out", *FILES, "--noise", "0", "--worlds", "2"], "--worlds, --noise: no"),
    ],
)
def test_names_are_checked_first(arguments, message):
    shown = CliRunner().invoke(app, ["bench", *arguments])
    assert isinstance(shown.exception, ConfigError) and message in str(shown.exception)
