"""lm-eval: the files that it is given, and what is read of those that it writes."""

import json
from pathlib import Path

import pytest
import tiny
import yaml

import fastslow as fs
from fastslow.errors import ConfigError, DataError, StateError

RESULTS = Path(__file__).parent / "lm_eval_results.json"
"""Of lm-eval 0.4.13 itself, without what it says of the machine."""
FINDS = f"""
folder = Path(sys.argv[-1]).parent / "results" / "model"
folder.mkdir(parents=True)
(folder / "results_2026.json").write_text(Path({str(RESULTS)!r}).read_text())
"""


def evaluated(run, stub, **options):
    """The folder of an evaluation, its result and the arguments that lm-eval was called with."""
    python, seen = stub(FINDS)
    found = fs.evaluate_with(run, "lm-eval", python=python, **options)
    return found, seen.read_text().splitlines()


def test_what_lm_eval_found_goes_into_the_summary_and_the_report(run, stub, tmp_path):
    found, _ = evaluated(run, stub)
    (score,) = found.result.scores
    assert (score.task, score.metric, score.value, score.count) == (
        "fastslow_pairs",
        "acc",
        0.75,
        8,
    )
    assert score.stderr == pytest.approx(0.1637, abs=1e-4)
    assert found.result.version == "1.2.3" and found.result.module == "policy"
    again = fs.Run.load(run.folder)
    assert [one["tool"] for one in again.summary.benchmarks] == ["lm-eval"]
    page = fs.write_report([run.folder], tmp_path / "page.html").read_text()
    assert "lm-eval, policy: fastslow_pairs, acc" in page and "0.75 ± 0.164 (of 8)" in page


def test_a_later_evaluation_replaces_that_of_the_same_policy_alone(run, stub):
    for module in ("leader", "base", "policy"):
        evaluated(run, stub, module=module)
    assert [one["module"] for one in run.summary.benchmarks] == ["base", "policy"]


def test_what_was_found_on_other_tasks_stays(run, stub):
    known = {"task": "other", "metric": "acc", "value": 0.5, "stderr": None, "count": None}
    mine = {"tool": "lm-eval", "module": "policy", "version": "1", "scores": [known]}
    run.summary.benchmarks.append(mine)
    run.summary.write(run.folder / "summary.json")
    evaluated(run, stub)
    evaluated(run, stub)
    (benchmark,) = fs.Run.load(run.folder).summary.benchmarks
    assert [score["task"] for score in benchmark["scores"]] == ["other", "fastslow_pairs"]


def test_other_tasks_alone_need_no_pairs(run, stub):
    work = FINDS.replace("sys.argv[-1]", "sys.argv[5]")
    for given, written in (["gsm8k"], False), (["gsm8k", "fastslow_pairs"], True):
        arguments = ["--tasks", *given]
        found = fs.evaluate_with(run, "lm-eval", python=stub(work)[0], arguments=arguments)
        assert (found.folder / "pairs.jsonl").exists() is written


def test_the_task_holds_the_pairs_as_the_model_reads_them(run, stub):
    found, arguments = evaluated(run, stub, limit=5)
    assert arguments == ["-m", "lm_eval", "run", "--config", str(found.folder / "config.yaml")]
    rows = list(map(json.loads, (found.folder / "pairs.jsonl").read_text().splitlines()))
    assert len(rows) == 5 and [row["label"] for row in rows] == [0, 1, 0, 1, 0]
    given = tiny.rows(24, seed=2)
    for row, pair in zip(rows, given, strict=False):
        assert row["prompt"].endswith("<|assistant|>\n")
        right, wrong = row["choices"][row["label"]], row["choices"][1 - row["label"]]
        assert right.startswith(pair["chosen"]) and wrong.startswith(pair["rejected"])
        assert right.endswith("<|end|>") and wrong.endswith("<|end|>")
    task = yaml.safe_load((found.folder / "tasks" / "fastslow_pairs.yaml").read_text())
    assert task["dataset_kwargs"]["data_files"]["test"] == str(found.folder / "pairs.jsonl")
    assert "{{" not in str(task)


def test_texts_that_look_like_templates_stay_as_they_are(run, stub):
    row = {"prompt": "Say {{ 1 + 1 }}.", "chosen": "{{ prompt }}", "rejected": "{% raw %}"}
    found, _ = evaluated(run, stub, data=[row])
    (written,) = map(json.loads, (found.folder / "pairs.jsonl").read_text().splitlines())
    assert "{{ 1 + 1 }}" in written["prompt"] and "{{ prompt }}" in written["choices"][0]


def config_of(found):
    return yaml.safe_load((found.folder / "config.yaml").read_text())


def test_a_module_is_its_peft_folder_on_the_base(run, stub, model_folder):
    model = config_of(evaluated(run, stub)[0])
    assert model["model"] == "hf" and model["model_args"] == {
        "pretrained": str(model_folder), "dtype": "float32",
        "peft": str(run.folder / "adapters" / "policy"),
    }  # fmt: skip
    assert "peft" not in config_of(evaluated(run, stub, module="base")[0])["model_args"]


def test_a_routed_policy_needs_the_model_class(routed_folder, stub):
    found, arguments = evaluated(routed_folder, stub)
    assert arguments[1] == "fastslow.harnesses.lm_eval_model"
    assert config_of(found)["model_args"] == {"run": str(routed_folder), "module": "leader"}
    assert config_of(evaluated(routed_folder, stub, module="01-warm")[0])["model"] == "hf"


def test_further_arguments_are_handed_on(run, stub, cli):
    work = FINDS.replace("sys.argv[-1]", "sys.argv[5]")
    code, out, err = cli(
        "eval", run.folder, "--with", "lm-eval", "--tool-python", stub(work)[0], "--json",
        "--", "--limit", "8",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["result"]["scores"][0]["value"] == 0.75
    assert stub(work)[1].read_text().splitlines()[-2:] == ["--limit", "8"]


def test_without_lm_eval_its_files_are_written_and_the_message_says_what_to_do(run):
    with pytest.raises(ConfigError, match="needs lm-eval and peft.*--tool-python.*lm_eval run"):
        fs.evaluate_with(run, "lm-eval")
    assert (run.folder / "benchmarks" / "lm-eval" / "policy" / "pairs.jsonl").exists()
    assert run.summary.benchmarks == []


@pytest.mark.parametrize(
    ("work", "message"),
    [("sys.exit(3)", "failed with exit code 3"), ("", "has left no results")],
)
def test_a_tool_that_fails_is_one_error(run, stub, work, message):
    with pytest.raises(StateError, match=message):
        fs.evaluate_with(run, "lm-eval", python=stub(work)[0])


def test_no_old_results_are_read(run, stub):
    evaluated(run, stub)
    with pytest.raises(StateError, match="has left no results"):
        fs.evaluate_with(run, "lm-eval", python=stub("")[0])


@pytest.mark.parametrize("damage", ["{", "[]", '{"results": {"a": 1}, "n-samples": {}}'])
def test_damaged_results_are_an_error_that_names_the_file(run, stub, damage):
    found, _ = evaluated(run, stub)
    (path,) = found.folder.glob("results/*/*.json")
    path.write_text(damage)
    with pytest.raises(StateError, match=str(path)):
        fs.evaluate_with(run, "lm-eval", read=True)


def test_options_without_effect_are_refused(run):
    with pytest.raises(ConfigError, match="temperature: no effect.*arguments, data, limit"):
        fs.evaluate_with(run, "lm-eval", temperature=1.0)
    with pytest.raises(ConfigError, match="'lm-evil'.*did you mean 'lm-eval'"):
        fs.evaluate_with(run, "lm-evil")
    with pytest.raises(ConfigError, match="cannot be run"):
        fs.evaluate_with(run, "lm-eval", python="/no/such/python")


def test_data_without_pairs_are_refused(run):
    with pytest.raises(DataError):
        fs.evaluate_with(run, "lm-eval", data=[{"prompt": "Hello.", "completion": "You."}])
