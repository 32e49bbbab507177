"""What is learned from is not held out: shared sources are named, shared examples are counted."""

import json

import tiny

from fastslow import training
from fastslow.training.data import overlap as module
from fastslow.training.data.dataset import objective_of
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.preflight import check_parts, part_warnings, plan


def pairs(numbers, *, prompt="p"):
    return [{"prompt": f"{prompt} {n}", "chosen": f"a {n}", "rejected": f"b {n}"} for n in numbers]


def warnings_of(recipe):
    return plan(recipe, objective_of(recipe), ProcessGroup()).warnings


def files(folder, train, held_out):
    return {
        "train": str(tiny.write_rows(folder / "t.jsonl", train)),
        "eval": str(tiny.write_rows(folder / "e.jsonl", held_out)),
        "max_length": 96,
    }


def test_the_same_file_on_both_sides_is_named_under_any_name(recipe, tmp_path, monkeypatch):
    path = tiny.write_rows(tmp_path / "d.jsonl", pairs(range(8)))
    (tmp_path / "link.jsonl").symlink_to(path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.jsonl").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for held_out in (str(path), "d.jsonl", "./d.jsonl", "link.jsonl", "folder", "*.jsonl"):
        made = recipe(data={"train": [str(path)], "eval": held_out, "max_length": 96})
        (warning,) = warnings_of(made)
        assert "is in data.train as well" in warning


def test_two_splits_of_one_dataset_are_not_the_same(recipe, tmp_path):
    import datasets

    splits = {"train": pairs(range(8)), "test": pairs(range(8, 12))}
    made = {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "d"))
    data = {"train": str(tmp_path / "d"), "eval": f"{tmp_path / 'd'}:test", "max_length": 96}
    assert warnings_of(recipe(data=data)) == []
    for same in (f"{tmp_path / 'd'}", f"{tmp_path / 'd'}:train"):
        (warning,) = warnings_of(recipe(data=data | {"eval": same}))
        assert "is in data.train as well" in warning


def test_held_out_examples_that_are_learned_from_are_counted(recipe, tmp_path):
    held_out = [
        *pairs(range(3)),  # The same.
        {"prompt": "p 3", "chosen": "b 3", "rejected": "a 3"},  # The other way round.
        {
            "prompt": [{"role": "user", "content": "p 4"}],
            "chosen": [{"role": "assistant", "content": "a 4"}],
            "rejected": [{"role": "assistant", "content": "b 4"}],
        },
        {"prompt": "p 5", "chosen": "a 5", "rejected": "another"},  # The prompt alone.
        *pairs([6, 7], prompt="q"),
    ]
    (warning,) = warnings_of(recipe(data=files(tmp_path, pairs(range(20)), held_out)))
    assert warning.startswith(
        "5 of 8 examples of data.eval are in data.train too, with the same prompt and answers, and "
        "1 more share a prompt: "
    )


def test_columns_under_other_names_are_compared_too(recipe, tmp_path):
    other = [
        {"question": row["prompt"], "won": row["chosen"], "lost": row["rejected"]}
        for row in pairs(range(4))
    ]
    data = files(tmp_path, other, other[:1] + pairs([9]))
    names = {"prompt": "question", "chosen": "won", "rejected": "lost"}
    (warning,) = warnings_of(recipe(data=data | {"columns": names}))
    assert warning.startswith("1 of 2 examples of data.eval are in data.train too")


def test_nothing_is_said_where_no_example_is_on_both_sides(recipe, tmp_path):
    prompts_only = [row | {"chosen": "other"} for row in pairs(range(4))]
    assert warnings_of(recipe(data=files(tmp_path, pairs(range(20)), prompts_only))) == []


def test_only_the_first_examples_of_long_data_are_compared_and_that_is_said(
    recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "LOOKED_AT", 10)
    made = recipe(data=files(tmp_path, pairs(range(20)), pairs([3, 15])))
    (warning,) = warnings_of(made)
    assert warning.startswith("1 of 2 examples of data.eval are in the first 10 of data.train too")


def test_a_run_and_validate_say_it_in_one_line(recipe, tmp_path):
    made = recipe("train.max_steps=1", data=files(tmp_path, pairs(range(20)), pairs(range(2))))
    seen = []
    training.train(made, listener=seen.append)
    (said,) = [event["message"] for event in seen if event["event"] == "warning"]
    assert said.startswith("2 of 2 examples of data.eval are in data.train too")
    assert check_parts(made, ProcessGroup()) == [said]


def test_what_one_domain_learns_from_is_not_held_out_in_another(continual, domain_files, tmp_path):
    processes = ProcessGroup()
    warm, cold = domain_files["warm"], domain_files["cold"]
    leaking = tmp_path / "leak.jsonl"
    with open(warm["eval"]) as file:
        held_out = [json.loads(line) for line in file]
    tiny.write_rows(leaking, held_out[:3] + tiny.domain_rows("cold", 8, seed=3))
    assert part_warnings(continual(), processes) == []
    domains = [{"name": "warm"} | warm, {"name": "cold"} | cold | {"train": str(leaking)}]
    made = continual(domains=domains)
    (warning,) = part_warnings(made, processes)
    assert "of data.eval of domain 1, warm are in data.train of domain 2, cold too" in warning
    shared = [{"name": "warm"} | warm, {"name": "cold"} | cold | {"train": warm["eval"]}]
    (warning,) = part_warnings(continual(domains=shared), processes)
    assert warning.startswith("domain 1, warm: data.eval: ") and "of domain 2, cold" in warning
