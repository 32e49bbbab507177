"""A real lm-eval: its log-likelihoods, accuracies and answers are ours, also of a routed policy.

`make test-tools` installs it into an environment of its own and runs this.
"""

import json
import os
import subprocess

import pytest
import tiny
import yaml

import fastslow as fs
from fastslow.harnesses.lm_eval import TASK

PYTHON = os.environ.get("FASTSLOW_LM_EVAL")
"""The Python of an environment with lm-eval and fastslow."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="needs FASTSLOW_LM_EVAL"),
]


@pytest.fixture(scope="module")
def run(model_folder, train_file, eval_file, tmp_path_factory) -> fs.Run:
    return fs.train(
        {
            "model": str(model_folder),
            "output_dir": str(tmp_path_factory.mktemp("run") / "run"),
            "data": {"train": str(train_file), "eval": str(eval_file), "max_length": 96},
            "lora": {"rank": 2, "alpha": 4.0},
            "train": {"batch_size": 8, "learning_rate": 1e-2, "max_steps": 4},
            "eval": {"num_prompts": 0},
        }
    )


@pytest.fixture(scope="module")
def routed(model_folder, domain_files, tmp_path_factory) -> fs.Run:
    raw = tiny.continual_settings(model_folder, domain_files, ("warm", "cold"), weights="routed")
    folder = tmp_path_factory.mktemp("routed") / "run"
    return fs.train(raw | {"output_dir": str(folder)})


def margins(folder, task=TASK):
    """Chosen less rejected of each pair, nats, in the order of the rows."""
    (path,) = folder.glob(f"results/*/samples_{task}_*.jsonl")
    rows = sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: row["doc_id"])
    found = []
    for row in rows:
        first, second = (float(logp) for logp, _ in row["filtered_resps"])
        found.append(first - second if row["doc"]["label"] == 0 else second - first)
    return found


def accuracy(values):
    return sum(value > 0 for value in values) / len(values)


def test_a_module_has_our_margins_and_against_the_base_our_held_out_accuracy(run):
    rows = tiny.rows(24, seed=2)
    scores = [score for score in run.score(rows) if score.skipped is None]
    found = {}
    for module in ("leader", "base"):
        done = fs.evaluate_with(run, "lm-eval", module=module, python=PYTHON)
        found[module] = margins(done.folder)
        (score,) = done.result.scores
        assert (score.task, score.metric, score.count) == (TASK, "acc", len(scores))
        assert score.value == pytest.approx(accuracy(found[module]))
        assert done.result.version.startswith("0.4.")
    own = [score.logps[0] - score.logps[1] for score in scores]
    assert found["leader"] == pytest.approx(own, abs=1e-3)
    against_base = [a - b for a, b in zip(found["leader"], found["base"], strict=True)]
    assert against_base == pytest.approx([score.margin for score in scores], abs=1e-3)
    assert accuracy(against_base) == pytest.approx(run.evaluate().accuracy)
    assert found["leader"] != pytest.approx(found["base"], abs=0.01)


def test_a_routed_policy_has_our_margins(routed):
    rows = [row for name in ("warm", "cold") for row in tiny.domain_rows(name, 6, seed=77)]
    done = fs.evaluate_with(routed, "lm-eval", data=rows, python=PYTHON)
    own = [score.logps[0] - score.logps[1] for score in routed.score(rows)]
    assert margins(done.folder) == pytest.approx(own, abs=1e-3)
    assert done.result.scores[0].value == pytest.approx(accuracy(own))
    # Both modules are asked: neither alone has these margins.
    for module in ("01-warm", "02-cold"):
        alone = [s.logps[0] - s.logps[1] for s in routed.score(rows, module=module)]
        assert alone != pytest.approx(own, abs=0.01)


def test_a_routed_policy_answers_as_we_sample(routed, tmp_path):
    prompts = [row["prompt"] for name in ("warm", "cold") for row in tiny.domain_rows(name, 3)]
    shown = [routed.prompt_text(prompt) for prompt in prompts]
    data = tiny.write_rows(tmp_path / "prompts.jsonl", [{"prompt": text} for text in shown])
    task = {
        "task": "answers", "dataset_path": "json", "dataset_kwargs": {"data_files": str(data)},
        "test_split": "train", "output_type": "generate_until", "doc_to_text": "prompt",
        "doc_to_target": "prompt", "metric_list": [{"metric": "exact_match"}],
        "generation_kwargs": {"do_sample": False, "max_gen_toks": 12, "until": ["<|end|>"]},
    }  # fmt: skip
    (tmp_path / "answers.yaml").write_text(yaml.safe_dump(task))
    arguments = [
        "run", "--model", "fastslow", "--model_args", f"run={routed.folder}", "--tasks", "answers",
        "--include_path", tmp_path, "--output_path", tmp_path / "results", "--log_samples",
    ]  # fmt: skip
    command = [PYTHON, "-m", "fastslow.harnesses.lm_eval_model", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (tmp_path / "results").glob("*/samples_answers_*.jsonl")
    rows = sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: row["doc_id"])
    theirs = [row["filtered_resps"][0] for row in rows]
    ours = routed.generate(prompts, temperature=0, max_new_tokens=12)
    assert theirs == [answer for (answer,) in ours]
