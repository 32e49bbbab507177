"""Objectives of a user's own file, as docs/objectives.md shows."""

import json
import re
from pathlib import Path

import pytest

from fastslow import training
from fastslow.errors import ConfigError, StateError
from fastslow.objectives import make_objective, objective_settings
from fastslow.testing import check_objective

PAGE = Path(__file__).parents[2] / "docs" / "objectives.md"

CLASS = """
from dataclasses import dataclass
from fastslow.objectives import Objective, ObjectiveOutput

@dataclass
class Mine(Objective):
    beta: float = 0.1

    def __call__(self, logps):
        z = 0 * logps.delta.detach()
        return RETURNED
"""


@pytest.fixture
def file(tmp_path):
    (code,) = re.findall(r"```python\n(# mine\.py\n.*?)```", PAGE.read_text(), re.S)
    path = tmp_path / "mine.py"
    path.write_text("from __future__ import annotations\n" + code)
    return path


def test_the_example_of_the_docs_is_a_whole_objective(file):
    objective = make_objective("MarginDpo", file=str(file), margin=1.0)
    assert objective.margin == 1.0 and objective.beta == 0.1
    check_objective(objective)
    both = make_objective("MarginDpo + 0.2 * sft", file=str(file))
    assert [weight for weight, _ in both.terms] == [1.0, 0.2]
    written = objective_settings("MarginDpo", file=str(file))
    assert written == {"beta": 0.1, "margin": 0.5, "file": str(file)}


def test_it_trains_by_its_name_and_its_file_may_not_change(file, recipe):
    made = recipe("objective.name=MarginDpo", f"objective.file={file}", "train.max_steps=3")
    summary = training.train(made)
    assert summary.eval["final"]["loss"] < summary.eval["start"]["loss"]
    (Path(made.output_dir) / "summary.json").unlink()
    file.write_text(file.read_text() + "# Changed.\n")
    with pytest.raises(StateError, match="objective of the run"):
        training.train(made)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "mine.py does not exist"),
        (CLASS.replace("__call__", "call"), "Mine in .* defines no __call__"),
        (CLASS.replace("@dataclass\n", ""), "Mine in .* is no dataclass; write @dataclass"),
        (
            CLASS.replace("beta:", 'takes = "pears"; beta:'),
            "takes 'pears'; allowed are pairs, rank",
        ),
        ("x = 1\n", "defines no class that derives from"),
        ("1 / 0\n", "cannot be run: ZeroDivisionError"),
        ("class (:\n", "cannot be run: SyntaxError"),
    ],
)
def test_files_that_hold_no_objective_are_refused(tmp_path, text, message):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        make_objective("mine", file=str(path))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "dpo",
            CLASS,
            r"objective.name: got 'dpo', which .*mine.py does not define; it defines Mine",
        ),
        ("Mine", CLASS.replace("= 0.1", "= 0.1; wide: float"), "objective.wide: is missing"),
    ],
)
def test_what_a_recipe_leaves_open_about_a_file_is_asked_for(tmp_path, name, text, message):
    path = tmp_path / "mine.py"
    text = text.replace("@dataclass", "@dataclass(kw_only=True)")
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        make_objective(name, file=str(path))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("logps.delta", r"expected an ObjectiveOutput\(.*found a Tensor"),
        (
            "ObjectiveOutput(-logps.delta.mean(), z, z)",
            r"shape.* of loss .*check_objective for all",
        ),
        ("ObjectiveOutput(-logps.delta.detach(), z, z)", r"shape, dtype and gradient of loss"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_one_that_would_fail_or_learn_nothing_stops_the_run_before_it_begins(
    recipe, tmp_path, returned, message
):
    path = tmp_path / "mine.py"
    path.write_text(CLASS.replace("RETURNED", returned))
    made = recipe("objective.name=Mine", f"objective.file={path}")
    with pytest.raises(ConfigError, match=f"objective Mine: .*{message}"):
        training.train(made)
    assert not (Path(made.output_dir) / "inputs.json").exists()


def test_one_that_learns_the_wrong_way_is_warned_of(file, recipe):
    file.write_text(file.read_text().replace("loss=-logsigmoid", "loss=logsigmoid"))
    made = recipe("objective.name=MarginDpo", f"objective.file={file}", "train.max_steps=1")
    seen = []
    training.train(made, listener=seen.append)
    told = [event["message"] for event in seen if event["event"] == "warning"]
    assert any(
        message.startswith("objective MarginDpo fails the check better_is_") for message in told
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("beta: float = 0.1", "weight: float = 1.0"), "objective Mine: has no beta"),
        (("beta:", 'needs = ("mood",); beta:'), "needs mood; available for pairs are score_gap"),
    ],
)
def test_what_no_run_could_give_it_is_named(recipe, tmp_path, changed, message):
    path = tmp_path / "mine.py"
    path.write_text(
        CLASS.replace("RETURNED", "ObjectiveOutput(-logps.delta, z, z)").replace(*changed)
    )
    with pytest.raises(ConfigError, match=message):
        training.train(recipe("objective.name=Mine", f"objective.file={path}"))


def test_names_of_a_file_are_suggested(file):
    with pytest.raises(ConfigError, match="did you mean 'MarginDpo'"):
        make_objective("MarginDp", file=str(file))
    with pytest.raises(ConfigError, match="for a custom one set objective.file"):
        make_objective("MarginDpo")


def test_an_nll_term_needs_a_chosen_response():
    with pytest.raises(ConfigError, match="objective.nll_weight: kto takes ratings"):
        make_objective("kto", nll_weight=0.1)


def test_a_coupled_objective_refuses_small_micro_batches(recipe, tmp_path):
    settings = ("objective.name=beta_dpo", "train.max_steps=2")
    with pytest.raises(ConfigError, match=r"micro_batch_size: got 4.*depends on its whole batch"):
        training.train(recipe(*settings, "train.micro_batch_size=4"))
    summary = training.train(recipe(*settings))
    assert json.loads(json.dumps(summary.eval["final"]))["chosen_log_ratio"] is not None
