"""Instruction induction: what the benchmark's tasks are made of, and a tiny one to its end."""

import json
import random
from collections import Counter

import pytest

from benchmarks.induction import tasks as module
from benchmarks.induction.__main__ import compared
from benchmarks.induction.language import MEANT, OPERATIONS, Language, answer
from benchmarks.induction.tasks import METHODS, SETTINGS, Setting, Sizes, Tasks
from fastslow.bench.tiny_base import Pretraining

TINY = Sizes(
    validation=3,
    test=5,
    pretraining=Pretraining(hidden_size=16, layers=1, heads=2, conversations=128, epochs=1),
)
SETTING = Setting("tiny", pool=12, budget=8, initial=4, zopo={"fitted": 4, "neighbors": 3})


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Tasks(tmp_path / "out", 3, TINY)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_operation_takes_its_part_of_a_list():
    words = ["cafe", "hotel", "film"]
    assert {name: answer(name, words) for name in OPERATIONS} == {
        "first": "cafe", "second": "hotel", "last": "film", "ends": "cafe/film",
        "start": "cafe/hotel", "rest": "hotel/film", "reversed": "film/hotel/cafe",
        "copy": "cafe/hotel/film",
    }  # fmt: skip


def test_writers_hint_at_what_they_mean_and_mean_what_a_list_draws_them_to():
    draw, languages = random.Random(0), [Language.draw(seed) for seed in range(20)]
    for operation, own in MEANT.items():
        used = Counter()
        for language in languages:
            for meant in OPERATIONS:
                texts = [language.instruction(meant, draw) for _ in range(10)]
                used[meant] += sum(f" {word} " in text for word in own for text in texts)
        assert used.most_common(1)[0][0] == operation
    language = languages[0]
    lists = [["cafe", "hotel", "film"], ["river", "tower", "school"]]
    meant = [Counter(language.meant(words, draw) for _ in range(400)) for words in lists]
    apart = sum(abs(meant[0][name] - meant[1][name]) for name in OPERATIONS)
    assert apart > 200  # Of 800; the same habits would differ by about 60.
    assert Language.draw(0) == language != languages[1]


def test_a_task_goes_to_its_end_and_is_not_run_again(tasks, monkeypatch):
    seen, pretrain = [], module.pretrain

    def watched(corpus, **settings):
        seen.extend(corpus)
        return pretrain(corpus, **settings)

    monkeypatch.setattr(module, "pretrain", watched)
    tasks.write()
    summary = tasks.run("reversed", SETTING)
    assert [*summary.methods] == list(METHODS) and summary.pool == 12
    counts = [result.evaluations for result in summary.methods.values()]
    assert counts == [8, 8, 4, 8] and summary.methods["zopo"].test is not None
    lists = set()
    for name, count in (("validation", 3), ("test", 5)):
        given = rows(tasks.folder / "reversed" / f"{name}.jsonl")
        assert len(given) == count
        lists |= {row["prompt"] for row in given}
        assert all(row["completion"].split("/") == row["prompt"].split("/")[::-1] for row in given)
    assert len(seen) == 128 and not lists & {prompt.split("\n\n")[1] for prompt, _ in seen}
    pool = (tasks.folder / "instructions-12.txt").read_text().splitlines()
    assert len(set(pool)) == 12

    def fail(*_, **__):
        raise AssertionError("it is pretrained again")

    monkeypatch.setattr(module, "pretrain", fail)
    tasks.write()
    assert tasks.run("reversed", SETTING) == summary


def test_the_table_compares_means_of_seeds_with_what_had_the_same_budget():
    def found(test):
        return {"instruction": "", "validation": 0.5, "test": test, "evaluations": 9, "found_at": 2}

    def record(setting, seed, task, tests):
        methods = {name: found(test) for name, test in tests.items()}
        return {"setting": setting, "seed": seed, "task": task, "methods": methods}

    records = []
    for seed in (0, 1):
        for task, test in (("first", 0.25), ("last", 0.5)):
            all_of_them = dict.fromkeys(METHODS, test) | {"zopo": 0.75}
            records.append(record("short", seed, task, all_of_them))
            records.append(record("short, other", seed, task, {"zopo": 0.5 + seed / 2}))
    table = {(row["setting"], row["method"]): row for row in compared(records)}
    assert len(table) == 5 and table["short", "random"]["test"] == 0.375
    above = table["short", "zopo"]["above"]
    assert [*above] == ["random", "initial", "resample"]
    # Over the seeds, which are alike; the tasks are not.
    assert above["random"]["test"] == {"mean": 0.375, "interval": (0.375, 0.375)}
    assert above["random"]["validation"]["mean"] == 0
    other = table["short, other", "zopo"]["above"]
    assert other["zopo"]["test"] == {"mean": 0.0, "interval": (-0.25, 0.25)}
    assert other["random"]["test"]["mean"] == 0.375


def test_every_setting_is_compared_with_one_that_has_all_methods():
    whole = {setting.name: setting for setting in SETTINGS if setting.methods == METHODS}
    for setting in SETTINGS:
        same = whole[setting.name.split(",")[0]]
        assert (setting.pool, setting.budget) == (same.pool, same.budget)
