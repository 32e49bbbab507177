"""The command as its users meet it: in a shell, on a terminal, with mistakes."""

import json
import os
import re
import sys
from pathlib import Path

import fork_server
import pexpect
import pytest
import tiny

import fastslow
from fastslow import training
from fastslow.cli.main import wait_briefly
from fastslow.config import dump_recipe

pytestmark = pytest.mark.processes

COMMAND = [sys.executable, "-m", "fastslow"]


def run(*arguments, **options):
    return fork_server.run("-m", "fastslow", *arguments, **options)


@pytest.fixture
def path(recipe, tmp_path):
    """A recipe file for a short run."""
    file = tmp_path / "recipe.yaml"
    file.write_text(
        dump_recipe(recipe("train.max_steps=6", "train.epochs=2", "eval.num_prompts=2"))
    )
    return file


@pytest.fixture(scope="module")
def finished(model_folder, train_file, eval_file, tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    recipe = fastslow.load_recipe(
        {
            "model": str(model_folder),
            "output_dir": str(folder),
            "data": {"train": str(train_file), "eval": str(eval_file), "max_length": 96},
            "lora": {"rank": 4, "alpha": 8.0},
            "train": {"batch_size": 8, "learning_rate": 1e-2},
            "eval": {"num_prompts": 4, "max_new_tokens": 8},
        }
    )
    return folder, training.train(recipe)


def test_train_prints_json_to_stdout_and_everything_else_to_stderr(path):
    done = run("train", path, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["steps"] == 6 and summary["leader"] in ("fast", "slow")
    parts = "step 6/6", "fast leads", "pairs/s", "held-out (start", "accuracy", "reverse KL (nats)"
    for part in (*parts, "reference"):
        assert part in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    again = run("train", path, "--json")
    assert json.loads(again.stdout) == summary and "is complete" in again.stderr


def test_train_shows_a_live_bar_on_a_terminal(path):
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "140"}
    child = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], "train", str(path)], env=env, encoding="utf-8",
        dimensions=(40, 140), timeout=60,
    )  # fmt: skip
    child.expect(pexpect.EOF)
    child.close()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", child.before)
    assert child.exitstatus == 0, plain
    for part in ("training", "6/6", "loss", "acc", "margin", "leads", "pairs/s", "0:00:0"):
        assert part in plain, plain
    assert "\x1b[" in child.before


def test_all_config_errors_come_at_once_with_exit_code_2(path):
    done = run("train", path, "train.batch_size=0", "chase.alfa=1", "objective.name=dopo")
    assert done.returncode == 2
    for part in ("3 problems", "train.batch_size: got 0", "did you mean 'chase.alpha'", "'dpo'?"):
        assert part in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "none.yaml"], 2, "recipe none.yaml does not exist"),
        (["train", "{path}", "model=./none"], 2, "folder ./none does not exist"),
        (["train", "{path}", "data.train=none.jsonl"], 2, "none.jsonl does not exist"),
        (["eval", "none"], 1, "none is not a run folder"),
        (["sample", "none"], 2, "give prompts"),
        (["learn", "none"], 2, "model: is missing"),
        (["sample", "none", "Hi"], 1, "none is not a run folder: it does not exist; give"),
        (["export", "none", "--to", "x"], 1, "none is not a run folder: it does not exist; give"),
    ],
)
def test_mistakes_get_one_clear_message(path, tmp_path, arguments, code, message):
    done = run(*[a.format(path=path) for a in arguments], cwd=tmp_path)
    assert done.returncode == code and message in done.stderr
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_bad_data_stops_with_the_rows_named(path, tmp_path):
    rows = tiny.rows(20)
    rows[4]["rejected"] = rows[4]["chosen"]
    data = tiny.write_rows(tmp_path / "bad.jsonl", rows)
    done = run("train", path, f"data.train={data}")
    assert done.returncode == 2 and "bad.jsonl:5: chosen and rejected are identical" in done.stderr


def test_training_from_standard_input(path, train_file):
    import gzip

    text = gzip.decompress(Path(train_file).read_bytes()).decode()
    done = run("train", path, "data.train=-", "train.epochs=1", "--json", input=text, cold=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 6


def test_validate_counts_and_shows_what_will_be_learned(path):
    done = run("validate", path)
    assert done.returncode == 0, done.stderr
    for part in ("read 96", "prompt tokens", " tokens scored:", "<|end|>", "domains"):
        assert part in done.stdout, done.stdout
    assert " 0" not in done.stdout.split("first left out")[0]
    assert "ready to train" in done.stdout.split("prompt not scored")[0].splitlines()
    noted = run("validate", path, "eval.samples=3").stdout
    assert "ready to train; read the warning above" in noted.splitlines()
    answer = run("validate", path, "eval.samples=3", "--json")
    found = json.loads(answer.stdout)
    assert found["warnings"] == ["eval.samples is called eval.num_prompts now; rename it"]
    assert not answer.stderr.strip()
    assert found["train"]["rows and pairs"]["read"] == 96
    assert found["eval"]["rows and pairs"]["read"] == 24


def test_eval_repeats_the_runs_own_measurement(finished):
    folder, summary = finished
    done = run("eval", folder, "--json")
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    for key in ("accuracy", "loss", "margin", "reverse_kl", "mean_length"):
        assert measured[key] == pytest.approx(summary.eval["final"][key], abs=1e-4), key
    table = run("eval", folder, "--module", "base", "--samples", "0").stdout
    assert "0.5" in table and "accuracy" in table
    wrong = run("eval", folder, "--module", "quick")
    assert wrong.returncode == 2 and "this run has fast, slow, leader, reference" in wrong.stderr


def test_eval_on_other_pairs(finished, tmp_path):
    folder, _ = finished
    data = tiny.write_rows(tmp_path / "o.jsonl", tiny.rows(9, seed=77))
    done = run("eval", folder, "--data", data, "--samples", 0, "--json")
    assert json.loads(done.stdout)["pairs"] == 9


def test_sample_answers_prompts_side_by_side(finished, eval_file):
    folder, _ = finished
    arguments = ["sample", folder, "Describe the river.", "--max-new-tokens", 8, "--json"]
    modules = ["--module", "leader", "--module", "base", "-n", 2]
    done = run(*arguments, *modules)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    keys = {"prompt", "answer", "tokens", "truncated", "module"}
    assert len(rows) == 4 and keys <= rows[0].keys()
    assert run(*arguments, *modules).stdout == done.stdout
    assert run(*arguments, *modules, "--seed", 1).stdout != done.stdout
    from_file = run("sample", folder, "--data", eval_file, "--limit", 3, "--max-new-tokens", 4)
    assert from_file.returncode == 0 and from_file.stdout.count("leader:") == 3


def test_export_writes_an_adapter_or_a_checked_model(finished, tmp_path):
    folder, summary = finished
    done = run("export", folder, "--to", tmp_path / "adapter")
    assert done.returncode == 0, done.stderr
    names = {file.name for file in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    idle = run("export", folder, "--to", tmp_path / "x", "--dtype", "float32")
    assert idle.returncode == 2 and "no effect without --merged" in idle.stderr
    taken = run("export", folder, "--to", tmp_path / "adapter")
    assert taken.returncode == 2 and "exists already" in taken.stderr

    merged = run("export", folder, "--to", tmp_path / "merged", "--merged", "--json")
    assert merged.returncode == 0, merged.stderr
    check = json.loads(merged.stdout)
    assert check["error"] < 1e-6 < check["effect"] and check["dtype"] == "float32"
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fastslow.adapters import Modules, load_base

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template
    modules = Modules.load(
        load_base(str(fastslow.load_recipe(folder / "config.yaml").model)),
        {"policy": folder / summary.adapters[summary.leader]},
        trainable=(),
    )
    import torch

    ids = torch.tensor([[5, 6, 7, 8]])
    with modules.using("policy"):
        torch.testing.assert_close(
            model(ids).logits, modules.causal_lm(ids).logits, atol=1e-4, rtol=1e-4
        )


def test_a_merge_that_loses_the_adapter_is_refused(finished, tmp_path, monkeypatch):
    from fastslow.adapters import Modules
    from fastslow.errors import StateError
    from fastslow.training.export.export import export_merged

    folder, _ = finished
    monkeypatch.setattr(Modules, "merge", lambda self, name: self.model.unload())
    with pytest.raises(StateError, match="differs from the adapter.*Nothing was written"):
        export_merged(folder, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_version():
    assert run("--version").stdout.strip() == f"fastslow {fastslow.__version__}"


def test_an_interruption_before_training_says_what_to_do(path, monkeypatch, capsys):
    from fastslow.cli import main

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastslow.training.train", interrupted)
    monkeypatch.setattr(sys, "argv", ["fastslow", "train", str(path)])
    with pytest.raises(SystemExit) as end:
        main.run()
    assert end.value.code == 130
    assert "interrupted; rerun the command to resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("own", "spins"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_sleep_soon_unless_the_environment_says_otherwise(monkeypatch, own, spins):
    monkeypatch.setattr(os, "environ", own)
    wait_briefly()
    assert own.get("GOMP_SPINCOUNT") == spins
