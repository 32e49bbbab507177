"""Several processes learn what one would, and stay the same."""

import json
import os
from dataclasses import fields, replace
from pathlib import Path

import fork_server
import pytest
import tiny
import torch
from tiers import fast
from two import DIVIDED, LAUNCH, TRAIN, apart, events, free_port, in_two, written

from fastslow import training
from fastslow.objectives import make_objective, objective_names
from fastslow.testing import example

pytestmark = pytest.mark.processes

COUPLED = ("beta_dpo",)
"""Their losses depend on what else is in the part of the batch that is scored at once."""


def rows_of(kind):
    for row in tiny.rows(64, seed=3):
        prompt, chosen, rejected = row["prompt"], row["chosen"], row["rejected"]
        if kind == "pairs":
            yield row | {"score_chosen": 3.0, "score_rejected": 1.0}
        elif kind == "rankings":
            answers = [rejected, chosen, rejected + " x"]
            yield {"prompt": prompt, "completions": answers, "scores": [1, 2, 0]}
        elif kind == "ratings":
            yield {"prompt": prompt, "completion": chosen, "label": True}
            yield {"prompt": prompt, "completion": rejected, "label": False}
        else:
            yield {"prompt": prompt, "completion": chosen}


def learned_offline():
    for name in objective_names():
        objective = make_objective(name)
        rated = {"chosen_win_rate", "rejected_win_rate"} & set(objective.needs)
        if not objective.on_policy and not rated:
            yield name, objective.takes


SOME = ("simpo", "beta_dpo", "mallows", "wpo", "bco", "plackett_luce", "sft")
"""What `make test` runs: of every kind of label and of need, with a running state and without, and
coupled."""


def test_every_objective_learns_in_two_processes_what_it_learns_in_one(recipe, tmp_path):
    made = {}
    for name, kind in learned_offline():
        if not fork_server.COLD and name not in SOME:
            continue
        path = tmp_path / f"{kind}.jsonl"
        if not path.exists():
            tiny.write_rows(path, list(rows_of(kind)))
        for where in ("one", "two"):
            # Stochastic gradients show a wrong factor that AdamW would hide.
            made[name, where] = recipe(
                f"output_dir={tmp_path / where / name}", f"objective.name={name}",
                f"data.train={path}", "data.eval=null", "train.max_steps=3", "train.batch_size=5",
                "train.optimizer=sgd", "train.learning_rate=0.01", "chase.alpha=0.05",
                "train.max_grad_norm=null",
            )  # fmt: skip
    names = [name for name, where in made if where == "one"]
    (tmp_path / "two").mkdir()
    first, second = in_two(TRAIN, 0, *(written(made[name, "two"]) for name in names))
    assert len(names) > 30 if fork_server.COLD else len(names) == len(SOME)
    distances = {}
    for name, one, other in zip(names, first, second, strict=True):
        assert one[0] == 0 and other[0] == 1 and one[1:] == other[1:], (name, one)
        training.train(made[name, "one"])
        distances[name] = apart(tmp_path / "two" / name, tmp_path / "one" / name)
    print(distances)
    assert {name: d for name, d in distances.items() if d > 1e-2 and name not in COUPLED} == {}


@pytest.mark.parametrize("launched", [{}, DIVIDED])
def test_kto_compares_with_the_whole_batch_in_two_processes(recipe, tmp_path, launched):
    rows = tiny.write_rows(tmp_path / "ratings.jsonl", list(rows_of("ratings")))
    settings = ("objective.name=kto", "objective.beta=1.0", f"data.train={rows}", "data.eval=null",
                "train.max_steps=4", "train.batch_size=3", "train.micro_batch_size=1",
                "train.optimizer=sgd", "train.learning_rate=0.3")  # fmt: skip
    one, two = (recipe(f"output_dir={tmp_path / name}", *settings) for name in ("one", "two"))
    training.train(one)
    in_two(TRAIN, 0, written(two), **launched)
    losses, expected = (
        [event["loss"] for event in events(made.output_dir) if event["event"] == "step"]
        for made in (two, one)
    )
    assert losses == pytest.approx(expected, abs=1e-4) and min(expected) < 0.49
    assert apart(two.output_dir, one.output_dir) < 1e-3


def test_everything_that_is_told_and_measured_is_what_one_process_says(recipe, tmp_path):
    settings = ("train.max_steps=5", "eval.every=2", "chase.swap_every=1", "eval.num_prompts=0",
                "train.micro_batch_size=2")  # fmt: skip
    one, two = (recipe(f"output_dir={tmp_path / name}", *settings) for name in ("one", "two"))
    training.train(one)
    in_two(TRAIN, 0, written(two))
    found, expected = events(two.output_dir), events(one.output_dir)
    assert [event["event"] for event in found] == [event["event"] for event in expected]
    for event, other in zip(found, expected, strict=True):
        assert event.keys() == other.keys()
        for key in event.keys() - {"pairs_per_s", "modules"}:
            assert event[key] == pytest.approx(other[key], abs=1e-4), key
    assert apart(two.output_dir, one.output_dir) < 1e-3
    assert not [path.name for path in tmp_path.iterdir() if "fastslow-" in path.name]


@pytest.mark.slow
def test_accelerates_own_launcher_starts_two(recipe, tmp_path):
    settings = ("train.max_steps=2", "eval.num_prompts=0")
    one, two = (recipe(f"output_dir={tmp_path / name}", *settings) for name in ("one", "two"))
    training.train(one)
    done = fork_server.run(
        "-m", "accelerate.commands.launch", "--config_file", LAUNCH / "several-gpus.yaml",
        "--num_processes", 2, "--main_process_port", free_port(),
        "-m", "fastslow", "train", written(two), "--json",
        env=os.environ | {"ACCELERATE_USE_CPU": "true"}, cold=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("step 2/2") == 1 and json.loads(done.stdout)["steps"] == 2
    assert "in 2 processes" in done.stderr
    assert apart(two.output_dir, one.output_dir) < 1e-3


@pytest.mark.parametrize(
    ("began", "launched"),
    fast([(1, DIVIDED), (2, {})], [(1, {}), (1, DIVIDED), (2, {}), (2, DIVIDED)]),
)
def test_a_run_goes_on_in_another_number_of_processes(recipe, tmp_path, began, launched):
    settings = ("train.max_steps=6", "checkpoint.every=100", "eval.num_prompts=0")
    whole, part = (recipe(f"output_dir={tmp_path / name}", *settings) for name in ("whole", "part"))
    training.train(whole)
    if began == 2:
        assert in_two(TRAIN, 3, written(part), **launched) == [[None], [None]]
        assert (Path(part.output_dir) / "checkpoints" / "step-00000003").exists()
        assert training.train(part).steps == 6
    else:
        done = fork_server.run("-c", TRAIN, 3, written(part), env=os.environ | launched)
        assert done.returncode == 0, done.stderr
        first, second = in_two(TRAIN, 0, written(part), **launched)
        assert first[0][1] == second[0][1] == 6
    assert apart(part.output_dir, whole.output_dir) < 1e-3


ONLINE = {"max_new_tokens": 5, "temperature": 1.5, "num_generations": 3}


def test_answers_are_sampled_by_all_and_judged_by_the_first(recipe, tmp_path):
    rule, asked = tmp_path / "rule.py", tmp_path / "asked"
    asked.mkdir()
    rule.write_text(
        "import os\n"
        "def score(prompt, answer):\n"
        f"    open(f'{asked}/{{os.getpid()}}', 'w').close()\n"
        "    return answer.count('e') - 0.1 * len(answer)\n"
    )
    judge = {"kind": "rule", "file": str(rule)}
    settings = (
        "train.max_steps=2", "eval.num_prompts=2", "eval.max_new_tokens=4", "eval.max_pairs=6",
        "train.batch_size=4", "chase=null",
    )  # fmt: skip
    kinds = {
        "rloo": {"objective": {"name": "rloo"}, "online": ONLINE, "judge": judge},
        "ppo": {
            "objective": {"name": "ppo"}, "online": {**ONLINE, "num_iterations": 2},
            "judge": judge,
        },
        "overlap": {"online": {**ONLINE, "overlap": True}, "judge": judge},
        "hypo": {"online_kl": {"weight": 0.05, "num_generations": 2, "max_new_tokens": 6}},
        "filter": {"filter": {"num_generations": 2, "max_new_tokens": 6}, "judge": judge},
        "rounds": {
            "rounds": {**ONLINE, "count": 2, "prompts_per_round": 6}, "judge": judge,
            "checkpoint": {"every": 2},
        },
    }  # fmt: skip
    recipes = [
        recipe(f"output_dir={tmp_path / name}", *settings, **sections)
        for name, sections in kinds.items()
    ]
    first, second = in_two(TRAIN, 0, *map(written, recipes))
    for name, one, other in zip(kinds, first, second, strict=True):
        assert one[0] == 0 and other[0] == 1 and one[1:] == other[1:], (name, one, other)
    assert len(list(asked.iterdir())) == 1


def test_what_stops_the_first_stops_all(recipe, tmp_path):
    rule = tmp_path / "rule.py"
    rule.write_text("def score(prompt, answer):\n    raise ValueError('no')\n")
    fails = recipe(
        f"output_dir={tmp_path / 'fails'}",
        online=ONLINE,
        judge={"kind": "rule", "file": str(rule)},
        eval={"num_prompts": 0},
    )
    live = recipe(f"output_dir={tmp_path / 'live'}", "data.train=-", "train.max_steps=2")
    first, second = in_two(TRAIN, 0, written(fails), written(live))
    assert first == second and len(first) == 2
    assert "Error" in first[0] and "no" in first[0]
    assert first[1].startswith(
        "ConfigError: data.train: several processes cannot learn from rows that arrive over time"
    )


SUMS = """
import json, sys
from fastslow.errors import StateError
from fastslow.evaluation import MetricSums
from fastslow.training.distributed.processes import ProcessGroup

group = ProcessGroup()
part = json.loads(sys.argv[1])[group.rank]
own = MetricSums()
own.add(part["sums"], count=part["count"])
whole = group.merged(own)
print("RESULT", json.dumps({"sums": whole.sums, "count": whole.count}))
share = group.shard([0, 1, 2, 3, 4])
print("RESULT", json.dumps([share, group.gather(share), group.any(group.rank == 1)]))
group.check_same("equal")
try:
    group.check_same(str(group.rank))
except StateError as error:
    print("RESULT", json.dumps(str(error)))
"""


@pytest.mark.parametrize("name", ["alpha_dpo", "beta_dpo", "bco"])
def test_two_processes_remember_what_one_would(name):
    objective = make_objective(name)
    whole, parts = observed(objective, slice(None)), [
        observed(objective, slice(0, 4)), observed(objective, slice(4, None)),
    ]  # fmt: skip
    for rank, (got, (share, all_shares, either), fault) in enumerate(
        in_two(SUMS, json.dumps(parts))
    ):
        assert got["count"] == 10
        after = objective.advance(objective.initial_state(), got["sums"], got["count"])
        alone = objective.advance(objective.initial_state(), whole["sums"], whole["count"])
        assert after == pytest.approx(alone, rel=1e-12)
        assert share == [[0, 2, 4], [1, 3]][rank]
        assert all_shares == [0, 1, 2, 3, 4] and either
        assert "no longer train the same model" in fault


def observed(objective, part):
    """What the objective takes down of a part of ten examples."""
    logps = example(objective, count=10, seed=1, dtype=torch.float64)
    tensors = {
        field.name: getattr(logps, field.name)[part]
        for field in fields(logps)
        if isinstance(getattr(logps, field.name), torch.Tensor)
    }
    extras = {key: value[part] for key, value in logps.extras.items()}
    sums = objective.observe(replace(logps, **tensors, extras=extras))
    count = len(range(10)[part])
    return {"sums": {key: value.item() for key, value in sums.items()}, "count": count}


BROADCAST = """
import json
from fastslow.training.distributed.processes import ProcessGroup

group = ProcessGroup()
def breaks():
    raise error
for error in (ValueError("no number"), json.JSONDecodeError("bad", "{", 1), KeyboardInterrupt()):
    if group.rank and isinstance(error, KeyboardInterrupt):
        continue  # Nothing is sent.
    try:
        group.broadcast_from_main(breaks)
    except BaseException as raised:
        print("RESULT", json.dumps([type(raised).__name__, str(raised)]))
print("RESULT", json.dumps(group.broadcast_from_main(lambda: "still in step")))
"""


def test_whatever_the_main_process_raises_is_raised_by_all():
    first, second = in_two(BROADCAST)
    told = [
        ["StateError", "the main process raised ValueError: no number"],
        ["StateError", "the main process raised JSONDecodeError: bad: line 1 column 2 (char 1)"],
    ]
    assert first == [*told, ["KeyboardInterrupt", ""], "still in step"]
    assert second == [*told, "still in step"]
