"""Runs, combinations and judges from Python."""

import json
import pkgutil
import shutil

import pytest
import tiny

import fastslow as fs
from fastslow.errors import ConfigError, DataError, StateError


@pytest.fixture(scope="module")
def settings(model_folder):
    return {
        "model": str(model_folder),
        "data": {"max_length": 96, "replay_buffer_size": 12},
        "lora": {"rank": 2, "alpha": 4.0},
        "train": {"batch_size": 8, "learning_rate": 1e-2},
        "eval": {"num_prompts": 2, "max_new_tokens": 4},
        "checkpoint": {"every": 1},
    }


@pytest.fixture(scope="module")
def runs(settings, tmp_path_factory):
    """Two finished runs on rows in memory."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        fs.train(
            settings | {"output_dir": str(folder / name)},
            train_dataset=tiny.domain_rows(name, 32, seed=seed),
            eval_dataset=tiny.domain_rows(name, 8, seed=50 + seed),
        )
        for seed, name in enumerate(("warm", "cold"))
    ]


def test_a_run_is_opened_scored_measured_and_merged(runs, tmp_path):
    run = fs.Run.load(runs[0].folder)
    assert run.status == "complete" and run.summary == runs[0].summary
    assert run.leader in ("fast", "slow") and "complete" in repr(run)
    final = run.summary.eval["final"]
    measured = run.evaluate()
    assert measured.accuracy == final["accuracy"]
    assert measured.loss == pytest.approx(final["loss"], abs=1e-5)
    rows = tiny.domain_rows("warm", 8, seed=50)
    scores = run.score(rows)
    assert sum(score.margin for score in scores) / 8 == pytest.approx(final["margin"], abs=1e-4)
    assert all(score.margin == 0 for score in run.score(rows, module="base"))
    assert len(run.generate(["Hi"], num_generations=2, max_new_tokens=4)[0]) == 2
    (answers,) = run.answers(["Hi"], max_new_tokens=3)
    assert answers[0].num_tokens <= 3
    check = run.merge_and_unload(tmp_path / "merged")
    assert check.error < 1e-6 < check.effect
    assert run.export(tmp_path / "adapter") == run.leader
    assert (tmp_path / "adapter" / "adapter_config.json").exists()


def test_the_steps_are_a_data_frame(runs):
    frame = runs[0].to_pandas()
    assert list(frame.step) == [1, 2, 3, 4] and frame.loss[0] == pytest.approx(0.6931, abs=1e-3)
    assert {"leader", "accuracy", "modules.fast.loss", "modules.slow.learning_rate"} <= {*frame}


def test_a_run_over_domains_has_all_steps(continual_run):
    folder, summary = continual_run
    run = fs.Run.load(folder)
    assert run.status == "complete" and run.leader == summary.leader
    frame = run.to_pandas()
    assert frame.part.nunique() == 2 and len(frame) == 8


def test_a_stopped_run_says_so_and_resumes_with_the_same_bits(settings, tmp_path, runs):
    stop, events = fs.StopToken(), []

    def callback(event):
        events.append(event)
        if event["event"] == "step" and event["step"] == 2:
            stop.stop("enough")

    given = {
        "train_dataset": tiny.domain_rows("warm", 32, seed=0),
        "eval_dataset": tiny.domain_rows("warm", 8, seed=50),
    }
    recipe = settings | {"output_dir": str(tmp_path / "run")}
    run = fs.train(recipe, callback=callback, stop=stop, **given)
    assert run.status == "stopped" and run.summary is None and len(run.to_pandas()) == 2
    assert fs.Run.load(run.folder).status == "stopped"
    with pytest.warns(UserWarning, match="checkpoint of step 2, which is not scaled to the KL"):
        assert len(run.generate(["Hi"])) == 1
    run.export(tmp_path / "early")
    assert "this is its checkpoint of step 2" in (tmp_path / "early" / "README.md").read_text()
    with pytest.raises(StateError, match="is not finished"):
        run.leader  # noqa: B018
    with pytest.raises(StateError, match="train_dataset: the rows differ from those"):
        fs.train(recipe, train_dataset=tiny.rows(3), eval_dataset=given["eval_dataset"])
    resumed = fs.train(recipe, **given)
    assert resumed.status == "complete"
    assert tiny.same(tiny.adapters(resumed.folder), tiny.adapters(runs[0].folder))
    heard = []
    assert fs.train(recipe, listener=heard.append, **given).summary == resumed.summary
    assert heard[-1]["event"] == "already_complete"


def test_mistakes_of_train_and_load_are_clear(settings, tmp_path):
    recipe = settings | {"output_dir": str(tmp_path / "run")}
    with pytest.raises(ConfigError, match="callback and listener are the same"):
        fs.train(recipe, train_dataset=tiny.rows(3), callback=print, listener=print)
    with pytest.raises(DataError, match="train_dataset: got one mapping"):
        fs.train(recipe, train_dataset={"train": 1})
    with pytest.raises(DataError, match="train_dataset:1: cannot be written as JSON"):
        fs.train(recipe, train_dataset=[{"prompt": object()}])
    with pytest.raises(DataError, match="train_dataset:1: cannot be written as JSON: .*surrogates"):
        fs.train(recipe, train_dataset=[{"prompt": "\ud800"}])
    with pytest.raises(ConfigError, match="train.batch_size"):
        fs.train(recipe | {"train": {"batch_size": 0}}, train_dataset=tiny.rows(3))
    with pytest.raises(StateError, match="none is not a run folder: it does not exist; give"):
        fs.Run.load(tmp_path / "none")


def test_a_data_set_gives_the_run_of_its_rows(settings, tmp_path, runs):
    import datasets

    rows = [json.loads(line) for line in (runs[0].folder / "data/train.jsonl").open()]
    plain = [row for row in rows if isinstance(row["prompt"], str)]
    made = [
        fs.train(settings | {"output_dir": str(tmp_path / name)}, train_dataset=data)
        for name, data in (("rows", plain), ("set", datasets.Dataset.from_list(plain)))
    ]
    assert tiny.same(*(tiny.adapters(run.folder) for run in made))


def test_combined_runs_are_one_policy(runs, tmp_path):
    policy = fs.combine(runs, to=tmp_path / "sum", weights=[0.25, 0.75])
    assert policy.weights == {"run-warm": 0.25, "run-cold": 0.75}
    assert policy.folder == tmp_path / "sum"
    rows = tiny.domain_rows("warm", 4, seed=60)
    scores = policy.score(rows)
    policy.save_pretrained(tmp_path / "saved")
    from peft import PeftModel

    model = PeftModel.from_pretrained(tiny.model(), tmp_path / "saved")
    first = fs.combine([run.folder for run in runs], weights=[0.25, 0.75])
    assert [s.logps for s in first.score(rows)] == [s.logps for s in scores]
    assert set(model.peft_config) == {"default"}
    assert len(policy.generate(["Hi"], max_new_tokens=3)[0]) == 1
    learned = fs.combine(runs, weights="learned")
    assert set(learned.weights) == {"run-warm", "run-cold"}


@pytest.mark.parametrize(
    ("last", "write"),
    [
        ("fastslow.training.export.export.model_card", lambda run, to: run.export(to)),
        ("fastslow.training.export.export._check", lambda run, to: run.merge_and_unload(to)),
        ("fastslow.api.combine.write_combined_run", lambda run, to: fs.combine([run], to=to)),
        ("shutil.copytree", lambda run, to: fs.combine([run]).save_pretrained(to)),
    ],
)
def test_a_folder_that_somebody_makes_meanwhile_stays(runs, tmp_path, monkeypatch, last, write):
    done = pkgutil.resolve_name(last)

    def meanwhile(*given, **options):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").touch()
        return done(*given, **options)

    monkeypatch.setattr(last, meanwhile)
    with pytest.raises(ConfigError, match="out exists already"):
        write(runs[0], tmp_path / "out")
    assert [file.name for file in tmp_path.rglob("*")] == ["out", "thesis.txt"]


def test_modules_of_one_name_are_told_apart_and_one_module_is_not_taken_twice(runs, tmp_path):
    (tmp_path / "other").mkdir()
    one, two = (shutil.copytree(run.folder, tmp_path / place / "模型")
                for run, place in zip(runs, ("", "other"), strict=True))  # fmt: skip
    policy = fs.combine([one, two], weights=[0.25, 0.75])
    assert policy.weights == {"run-domain": 0.25, "run-domain-2": 0.75}
    rows = tiny.domain_rows("warm", 2, seed=60)
    wanted = fs.combine(runs, weights=[0.25, 0.75]).score(rows)
    assert [s.logps for s in policy.score(rows)] == [s.logps for s in wanted]
    with pytest.raises(ConfigError, match="are the same module; give each once"):
        fs.combine([one, runs[0]], weights="uniform")


def test_combine_names_every_mistake(runs, tmp_path):
    with pytest.raises(ConfigError, match="(?s)2 problems.*exists already.*fixed: "):
        fs.combine(runs, to=tmp_path, weights="fixed")
    with pytest.raises(ConfigError, match="weights: got 'best'; allowed are uniform, fixed"):
        fs.combine(runs, weights="best")


def length(prompt, answer):
    return float(len(answer))


def lengths(prompt, answers):
    return [float(len(answer)) for answer in answers]


class Batched:
    def judge(self, requests):
        return [[float(len(answer)) for answer in one.answers] for one in requests]


class Compared:
    def compare(self, prompt, a, b):
        return 1.0 if len(a) > len(b) else 0.5 if len(a) == len(b) else 0.0


@pytest.mark.parametrize("judge", [length, lengths, Batched, Batched(), Compared])
def test_a_judge_may_be_a_function_a_class_or_an_object(judge, tmp_path):
    rows = [{"prompt": "p", "chosen": "longer", "rejected": "short"}] * 3
    found = fs.check_judge(judge, rows)
    assert (found.agreement, found.consistent, found.pairs) == (1.0, 1.0, 3)


def test_a_judge_in_a_file_may_be_a_class(tmp_path):
    file = tmp_path / "judge.py"
    file.write_text(
        "class Mine:\n    def compare(self, prompt, a, b):\n        return len(a) > len(b)\n"
    )
    section = {"kind": "rule", "file": str(file), "function": "Mine"}
    rows = [{"prompt": "p", "chosen": "longer", "rejected": "short"}]
    assert fs.check_judge(section, rows).agreement == 1.0


def test_a_judge_that_is_wrong_says_what_it_must_give(tmp_path):
    rows = [{"prompt": "p", "chosen": "longer", "rejected": "short"}]
    for judge, error, message in (
        (3, ConfigError, "int cannot judge; give a function"),
        (None, ConfigError, "judge: is missing; give a function"),
        (lambda prompt, answers: [1.0], fs.JudgeError, "gave 1 scores for 2 answers"),
        (lambda prompt, answer: "good", fs.JudgeError, "gave 'good'; it must give a finite number"),
    ):
        with pytest.raises(error, match=message):
            fs.check_judge(judge, rows)


def test_train_asks_a_judge_that_is_a_python_object(settings, tmp_path):
    recipe = settings | {
        "output_dir": str(tmp_path / "run"),
        "online": {"max_new_tokens": 6, "num_generations": 2},
        "train": {"batch_size": 4, "learning_rate": 1e-2, "max_steps": 2},
    }
    run = fs.train(recipe, train_dataset=tiny.rows(16), judge=length)
    assert run.status == "complete" and run.recipe.judge.kind == "rule"
    again = fs.train(recipe, train_dataset=tiny.rows(16), judge=length)
    assert again.summary == run.summary
    from fastslow.judges.objects import _HELD

    _HELD.clear()
    with pytest.raises(
        ConfigError, match="stands for a Python object, which this process does not"
    ):
        fs.Run.load(run.folder, trust_code=True).evaluate(tiny.rows(4))
    with pytest.warns(UserWarning, match="judge is not asked"):
        assert fs.Run.load(run.folder).evaluate(tiny.rows(4)).reward is None
    assert fs.Run.load(run.folder).evaluate(tiny.rows(4), judge=length).reward is not None
