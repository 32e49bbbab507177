"""A learner of two processes: one knows the store, both learn, and it comes to what one learns."""

import json
import signal
import time

import pytest
from safetensors.torch import load_file
from two import DIVIDED, WHOLE, in_two, start_two, wait_for

from fastslow.config import dump_recipe, load_recipe
from fastslow.errors import ConfigError
from fastslow.feedback import Store, planning, updates
from fastslow.feedback.places import adapter_folder
from fastslow.foreign_files import ADAPTER_WEIGHTS
from fastslow.live.run import learn
from fastslow.training.distributed.processes import ProcessGroup

pytestmark = [pytest.mark.slow, pytest.mark.processes]

TRAIN = {"batch_size": 5, "optimizer": "sgd", "schedule": "constant"}
"""Stochastic gradients show a wrong factor that AdamW would hide; shares are not even."""

LEARN = """
import json, sys
from pathlib import Path
from fastslow.config import load_recipe
from fastslow.errors import FastslowError
from fastslow.live import run
from fastslow.training.distributed.processes import ProcessGroup

rank, said = ProcessGroup().rank, []
if rank:
    run.Store = None  # Only the main process may open it.
try:
    run.learn(
        Path(sys.argv[1]), load_recipe(sys.argv[2]), store_url=None, once=sys.argv[3] == "once",
        say=lambda text: (said.append(text), print("SAID", text, flush=True)),
    )
except FastslowError as error:
    said.append(f"{type(error).__name__}: {error}")
print("RESULT", json.dumps([rank, said]))
"""


def ready(town, rows):
    """The folder of a town with votes that nobody has open, and its recipe as a file."""
    town.votes(rows)
    town.store.close()
    raw = town.settings()
    path = town.folder.with_suffix(".yaml")
    path.write_text(dump_recipe(load_recipe(raw)))
    return town.folder, path


def left_in(folder):
    """What became of which rows; what is said of learning them; the weights."""
    with Store(folder) as store, store.read() as connection:
        history = updates.history(connection)[::-1]
        rows = [[row.seq for row in updates.rows_of(connection, one.id)] for one in history]
    facts = [(one.id, one.parent, one.state) for one in history]
    learned = [one.gate.get("learned") for one in history]
    weights = [
        load_file(adapter_folder(folder, one.adapter) / ADAPTER_WEIGHTS)
        for one in history
        if one.adapter
    ]
    return facts, rows, learned, weights


@pytest.mark.parametrize("budget", [None, {"reverse_kl": 1e-6}])
def test_two_processes_learn_what_one_learns(make_town, rows, budget):
    # Which answers are sampled, to measure the KL, depends on the number of processes.
    changes = {"budget": budget, "train": {**TRAIN, "learning_rate": 0.1}}
    one, two = (make_town(name, **changes) for name in ("one", "two"))
    folder, path = ready(one, rows[:30])
    said = []
    learn(folder, load_recipe(path), store_url=None, once=True, say=said.append)
    main, other = in_two(LEARN, *ready(two, rows[:30]), "once", **WHOLE)
    assert main[0][0] == 0 and other == [[1, []]], "the other process says nothing"
    assert "in 2 processes" in main[0][1][0] and len(main[0][1]) == len(said) == 5
    *own, learned, weights = left_in(two.folder)
    *expected, _, of_one = left_in(one.folder)
    assert own == expected and len(weights) == 3
    if budget is None:
        assert max(map(distance, weights, of_one)) < 1e-3
    else:
        assert min(one["strength"] for one in learned) < 1


def distance(found, expected):
    """The largest difference of two adapters, in largest weights of their tensor."""
    return max(
        float((found[key] - tensor).abs().max() / tensor.abs().max().clamp(min=1e-6))
        for key, tensor in expected.items()
    )


def test_rows_that_two_processes_cannot_learn_are_set_aside_and_both_go_on(make_town, rows):
    folder, path = ready(
        make_town(train={**TRAIN, "learning_rate": 1e30, "max_grad_norm": None}), rows[:30]
    )
    main, other = in_two(LEARN, folder, path, "once", **WHOLE)
    assert other == [[1, []]] and len(main[0][1]) == 5
    (facts, *_) = left_in(folder)
    assert [state for *_, state in facts] == ["quarantined"] * 3
    assert list(folder.glob("failed-batch-*.json"))


@pytest.mark.parametrize("how", ["other told to stop", "another learner begins"])
def test_both_end_where_one_is_told_to_or_may_learn_no_more(make_town, rows, how):
    folder, path = ready(make_town(), rows[:10])
    started = start_two(LEARN, folder, path, "on", **WHOLE)
    deadline = time.monotonic() + 120
    while started[0].stdout.count("SAID") < 2:
        assert time.monotonic() < deadline and started[0].poll() is None, started[0].stderr
        time.sleep(0.1)
    if how == "other told to stop":
        started[1].send_signal(signal.SIGTERM)
    else:
        with Store(folder) as store:
            store.write(planning.claim)
    wait_for(*started, timeout=60)
    main, other = (json.loads(process.stdout.split("RESULT ")[1]) for process in started)
    assert [process.returncode for process in started] == [0, 0]
    fenced = how != "other told to stop"
    assert ("Fenced: another learner has started" in main[1][-1]) is fenced
    assert all("SIGTERM" in text for text in other[1]) and main[0] == 0


def test_a_sharded_base_is_refused_in_one_line(make_town, rows):
    folder, path = ready(make_town(), rows[:10])
    for _, said in sum(in_two(LEARN, folder, path, "once", **DIVIDED), []):
        assert said[-1].startswith("ConfigError: launcher: a sharded base")


def test_several_processes_teach_no_student_and_say_why(town, monkeypatch):
    jobs = town.learner()._jobs
    assert jobs.no_student is None
    monkeypatch.setattr(ProcessGroup, "size", 2)
    assert "only be taught by one process" in jobs.no_student
    with pytest.raises(ConfigError, match="only be taught by one process"):
        jobs.adopt(None, 1, [], lambda: None, None)
