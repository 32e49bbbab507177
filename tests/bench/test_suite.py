"""The benchmarks end to end on the smallest worlds, and how they share work and go on."""

import json
from functools import partial
from pathlib import Path

import pytest

from fastslow.bench import chasing, continual, measure, objectives, scenario, suite
from fastslow.bench.methods import METHODS, TRAININGS
from fastslow.bench.tiny_base import Pretraining, pretrain_base
from fastslow.config import load_recipe
from fastslow.errors import ConfigError
from fastslow.objectives import make_objective
from fastslow.streams.worlds import World
from fastslow.training.continual import merge_weights

SMALL = Pretraining(hidden_size=16, layers=1, heads=2, conversations=400, epochs=1)
SAMPLED = {"num_prompts": 2, "num_generations": 2, "max_new_tokens": 8}
STRENGTHS = (1.0, 2.0)


@pytest.fixture(autouse=True)
def small_bases(monkeypatch, tmp_path_factory):
    cache = tmp_path_factory.getbasetemp() / "bases"
    monkeypatch.setattr(
        scenario, "pretrain_base", lambda world: pretrain_base(world, settings=SMALL, cache=cache)
    )
    monkeypatch.setattr(scenario, "SAMPLED", SAMPLED)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(merge_weights, "STEPS", 6)


@pytest.fixture(autouse=True)
def few_strengths(monkeypatch):
    plain = scenario.Scenario

    def measured_at_few(name, domains, settings, strengths=()):
        return plain(name, domains, settings, STRENGTHS)

    for place in (scenario, chasing):
        monkeypatch.setattr(place, "Scenario", measured_at_few)


def on_progress(task, done, total):
    assert 0 <= done <= total


def one_step(number):
    suite._count({"event": "step"})
    return number


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.processes)])
def test_steps_of_all_trainings_are_counted(workers):
    told = []
    calls = [partial(one_step, number) for number in range(3)]
    found = suite.gathered(
        calls, workers=workers, progress=lambda done, total: None, on_steps=told.append
    )
    assert sorted(found) == [0, 1, 2] and told[-1] == 3 and told == sorted(told)


def small_scenario(tmp_path, pairs=80):
    return scenario.world_scenario(World(seed=3), tmp_path / "world", pairs=pairs, held_out=6)


@pytest.mark.parametrize("training", TRAININGS)
def test_every_training_takes_the_same_number_of_steps(training, tmp_path):
    made = small_scenario(tmp_path)
    recipe = made.recipe(training, 1e-3, tmp_path / "run", pairs=80, measure=False)
    runs = len(recipe.continual.domains) if recipe.continual else 1
    assert runs * recipe.train.max_steps == 3 * 5
    assert recipe.train.learning_rate == 1e-3
    if recipe.continual is None:
        assert len(recipe.data.train_sources) == 3
        assert recipe.data.shuffle == 246
    else:
        assert all(domain.eval is None for domain in recipe.continual.domains)


def test_every_method_names_a_training():
    assert {method.training for method in METHODS.values()} == set(TRAININGS)


def test_methods_that_share_a_training_share_its_task(tmp_path):
    made = small_scenario(tmp_path)
    rates = dict.fromkeys(("cofs", "cofs-uniform", "oracle", "joint"), (1e-3, 1e-2))
    tasks = suite.plan([made], rates, tmp_path, pairs=80, retention=True)
    assert len(tasks) == 4
    assert {task.methods for task in tasks} == {("cofs", "cofs-uniform", "oracle"), ("joint",)}
    assert not any(task.done for task in tasks)


@pytest.mark.slow
def test_the_benchmark_on_worlds_from_start_to_table_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(continual, "TUNING_SEEDS", (1000,))
    settings = {
        "seeds": [0],
        "rates": [1e-2],
        "pairs": 80,
        "conflict": 0.5,
        "num_domains": 2,
        "noise": 0.0,
        "methods": ["oracle", "cofs", "cofs-routed", "joint"],
        "workers": 1,
        "on_progress": on_progress,
    }
    found = continual.bench_worlds(tmp_path, **settings)
    assert json.loads((tmp_path / "results.json").read_text()) == found
    assert set(found["methods"]) == set(settings["methods"])
    assert set(found["rates"].values()) == {1e-2}
    table = (tmp_path / "table.md").read_text()
    assert all(f"| {method} |" in table for method in settings["methods"])
    record = json.loads(next((tmp_path / "records" / "world-0").glob("cofs-0*.json")).read_text())
    assert record["points"][0]["strength"] == 0.0
    assert {point["strength"] for point in record["points"]} <= {0.0, *STRENGTHS}
    assert all(domain["win_rate"] == 0.5 for domain in record["points"][0]["domains"])

    def refuse(*args):
        raise AssertionError("measured again")

    monkeypatch.setattr(suite, "measure_method", refuse)
    assert continual.bench_worlds(tmp_path, **settings) == found


@pytest.mark.slow
def test_the_oracle_measures_each_module_on_its_own_domain(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "FAR", -1.0)
    made = small_scenario(tmp_path, pairs=80)
    (task,) = suite.plan(
        [made], {"oracle": (1e-2,), "cofs-routed": (1e-2,)}, tmp_path,
        pairs=80, retention=True,
    )  # fmt: skip
    suite.run_task(task)
    oracle, routed = (
        json.loads(task.record(method).read_text()) for method in ("oracle", "cofs-routed")
    )
    # Both are too far from the base for a greater strength.
    assert [point["strength"] for point in oracle["points"]] == [0.0, 1.0]
    assert [point["strength"] for point in routed["points"]] == [0.0, 1.0]
    runs = sorted((task.run / "domains").iterdir())
    trained = next(point for point in oracle["points"] if point["strength"] == 1.0)
    for run, measured in zip(runs, trained["domains"], strict=True):
        own = json.loads((run / "summary.json").read_text())["eval"]["final"]
        for key in ("accuracy", "margin", "reward", "reverse_kl"):
            assert measured[key] == pytest.approx(own[key], abs=1e-5)
    assert not list(task.run.rglob("checkpoints"))


@pytest.mark.slow
def test_chasing_on_small_streams(tmp_path, monkeypatch):
    monkeypatch.setattr(chasing, "RATES", {"adamw": (1e-3, 1e-2)})
    monkeypatch.setattr(chasing, "FIXED", 1)
    monkeypatch.setattr(chasing, "COMPARED", 0)
    monkeypatch.setattr(chasing, "CHASES", {"chase": {"alpha": 0.0, "slow_ratio": 0.1,
                                            "swap_every": 2, "loss_decay": 0.8}})  # fmt: skip
    found = chasing.bench_chasing(
        tmp_path, seeds=[0], pairs=128, optimizer="adamw", workers=1, on_progress=on_progress
    )
    for kind in ("steady", "drifting"):
        rows = found["streams"][kind]["settings"]
        plain = [rows["dpo-0.001"], rows["dpo-0.01"]]
        best = min(row["loss"]["mean"] for row in plain)
        assert min(row["above_best_rate"]["mean"] for row in plain) == 0.0
        assert set(rows["chase"]["regret_over_root"]) == {"32", "64", "128"}
        assert ("segment_regret" in rows["chase"]) == (kind == "drifting")
        assert rows["chase"]["above_best_rate"]["mean"] == pytest.approx(
            rows["chase"]["loss"]["mean"] / best - 1
        )
        # Without a chase term the two modules are the two runs of plain DPO.
        for key in ("loss", "gain", "gain@1", "swaps"):
            assert rows["switching-2-speeds"][key] == rows["chase"][key]
        by_rate = found["streams"][kind]["fast_rates"]
        assert by_rate["dpo-0.01"]["dpo"] == rows["dpo-0.01"]["above_best_rate"]
    lines = (tmp_path / "scenarios/world-0/drifting/train.jsonl").read_text().splitlines()
    assert len(lines) == 128


def test_files_of_real_pairs(tmp_path):
    made = small_scenario(tmp_path)
    folders = [tmp_path / "world" / name for name in ("reviews", "notes")]
    shared = load_recipe({**made.settings, "eval": SAMPLED})
    files, other = (
        scenario.files_scenario(folders, shared, tmp_path / f"files-{seed}", pairs=70, seed=seed)
        for seed in (0, 1)
    )
    rows = [Path(one.domains[0].train).read_text().splitlines() for one in (files, other)]
    # Two in a hundred more than are learned, drawn by the seed.
    assert [len(lines) for lines in rows] == [72, 72] and rows[0] != rows[1]
    assert scenario.smallest_domain(files) == 72
    joint = files.recipe("joint", 1e-2, tmp_path / "joint", pairs=70, measure=True)
    assert joint.data.shuffle >= 144 and joint.train.max_steps == 10
    found = continual.bench_files(
        tmp_path / "out", [files], rate=1e-2, pairs=70, methods=["oracle", "cofs"], workers=1,
        on_progress=on_progress,
    )  # fmt: skip
    assert found["metric"] == "accuracy"
    assert found["setting"]["domains"] == ["reviews", "notes"]
    assert found["setting"]["seeds"] == [0]
    # One order of the pairs says nothing of how far another would differ.
    assert set(found["methods"]["cofs"]["gain"]) == {"mean"}
    with pytest.raises(ConfigError, match="has no train and no test"):
        scenario.files_scenario([tmp_path], shared, tmp_path / "none", pairs=1)
    both = {name: make_objective(name) for name in ("dpo", "odpo")}
    with pytest.raises(
        ConfigError, match="usable by all objectives: odpo: the objective needs score"
    ):
        scenario.files_scenario(
            folders, shared, tmp_path / "none", pairs=1,
            lacking=lambda pair: objectives.lacking(both, pair),
        )  # fmt: skip


@pytest.mark.slow
def test_objectives_on_the_same_answers_of_small_worlds(tmp_path, monkeypatch):
    monkeypatch.setattr(objectives, "HELD_OUT", 8)
    monkeypatch.setattr(objectives, "TUNING_SEEDS", (1000,))
    names = ("dpo", "sdpo", "kto", "sft", "odpo beta=0.5 alpha=0.2")
    run = partial(
        objectives.bench_worlds, tmp_path, seeds=[0], rates=[1e-2], pairs=80, names=names,
        workers=1, on_progress=on_progress,
    )  # fmt: skip
    found = run()
    assert set(found["objectives"]) == set(names) and found["metric"] == "reward"
    for name, row in found["objectives"].items():
        assert row["rate"] == 1e-2 and row["gain@1"]["mean"] >= 0.0
        path = tmp_path / "runs" / "world-0" / f"{name.replace(' ', '-')}-{row['rate']:g}"
        # Five steps of 32 answers each, whatever the label; a demonstration is one answer.
        summary = json.loads((path / "summary.json").read_text())
        each = {"sdpo": 8, "kto": 32}.get(name, 16)
        assert (summary["steps"], summary["pairs_seen"]) == (5, 5 * each)
        assert set(row["matched"]) == set(row["ended"]) == set(objectives.SHOWN)
    table = objectives.as_markdown(found)
    assert all(f"| {name} |" in table for name in names)
    records = {path: path.stat().st_mtime_ns for path in tmp_path.glob("records/*/*.json")}
    assert len(records) == 5 + 5
    assert run() == found
    assert all(path.stat().st_mtime_ns == before for path, before in records.items())


def test_objectives_on_files(tmp_path):
    made = small_scenario(tmp_path)
    shared = load_recipe({**made.settings, "eval": SAMPLED})
    files = scenario.files_scenario(
        [tmp_path / "world" / "reviews"], shared, tmp_path / "files", pairs=76
    )
    found = objectives.bench_files(
        tmp_path / "out", [files], rate=1e-2, pairs=76, names=["dpo", "plackett_luce"], workers=1,
        on_progress=on_progress,
    )  # fmt: skip
    assert found["metric"] == "accuracy" and found["setting"]["domain"] == "reviews"
    dpo, lists = (found["objectives"][name] for name in ("dpo", "plackett_luce"))
    # In lists of two, Plackett and Luce's loss is DPO's.
    assert lists["learns_from"] == "rankings"
    assert lists["ended"]["margin"] == pytest.approx(dpo["ended"]["margin"], rel=1e-3)
