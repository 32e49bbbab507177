"""Rows under a recipe's own names of columns are read wherever one asks a run or a recipe."""

import json

import pytest
import tiny
from typer.testing import CliRunner

import fastslow as fs
from fastslow.cli.main import app

COLUMNS = {"prompt": "asked", "chosen": "better", "rejected": "worse"}
OWN = [{name: row[key] for key, name in COLUMNS.items()} for row in tiny.rows(16)]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tiny.write_rows(tmp_path_factory.mktemp("own") / "rows.jsonl", OWN)


@pytest.fixture(scope="module")
def run(file, model_folder, tmp_path_factory):
    return fs.train(
        {
            "model": str(model_folder),
            "data": {"train": str(file), "columns": COLUMNS, "max_length": 96},
            "lora": {"rank": 2, "alpha": 4.0},
            "train": {"batch_size": 8},
            "output_dir": str(tmp_path_factory.mktemp("own") / "run"),
        }
    )


def test_a_run_scores_and_answers_rows_as_it_learned_them_and_as_they_are_read_here(run):
    here = [{key: row[name] for key, name in COLUMNS.items()} for row in OWN[:2]]
    assert run.score(OWN[:2]) == run.score(here)
    own = run.generate([{"asked": OWN[0]["asked"]}], max_new_tokens=4)
    assert own == run.generate([{"prompt": OWN[0]["asked"]}], max_new_tokens=4)
    assert own == run.generate([OWN[0]["asked"]], max_new_tokens=4)


def test_its_training_file_is_sampled_from(run, file):
    asked = ["sample", str(run.folder), "--data", str(file), "--limit", "1", "--json"]
    found = CliRunner().invoke(app, [*asked, "--max-new-tokens", "4"])
    assert found.exit_code == 0, found.output
    assert OWN[0]["asked"][-1]["content"] in json.loads(found.stdout.splitlines()[0])["prompt"]


def test_a_recipes_judge_is_asked_about_its_rows(file, tmp_path):
    judge = tmp_path / "judge.py"
    judge.write_text("def score(prompt, answer):\n    return len(answer)\n")
    recipe = fs.load_recipe(
        {
            "model": "none",
            "data": {"eval": str(file), "columns": COLUMNS},
            "eval": {"judge": {"kind": "rule", "file": str(judge), "function": "score"}},
        }
    )
    assert fs.check_judge(recipe).pairs == len(OWN)
