"""Rows that come after a run began or ended: each is learned once, or refused with an error."""

import io
import json
import shutil
import sys
import tempfile
import threading
import time
import types
from collections import Counter
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from safetensors.torch import load_file

import fastslow
from fastslow import load_recipe, training
from fastslow.errors import DataError, StateError
from fastslow.training import run as run_module
from fastslow.training.loop.signals import StopToken

SETTINGS = {
    "lora": {"rank": 2, "alpha": 4.0},
    "train": {"batch_size": 4, "learning_rate": 1e-2, "schedule": "constant"},
    "checkpoint": {"every": 2},
    "chase": None,
    "budget": None,
}
ALL = 1000
"""More than any run here learns from: its replay buffer holds every pair."""


class Run:
    """A run folder, and files that it learns from."""

    def __init__(self, model, folder, train=None, **sections):
        self.folder, self.files, self.made = Path(folder) / "run", Path(folder) / "rows", 0
        self.files.mkdir()
        self.settings = {
            "model": str(model),
            "output_dir": str(self.folder),
            "data": {
                "train": train or str(self.files), "max_length": 96, "replay_buffer_size": ALL,
            },
        } | SETTINGS | sections  # fmt: skip

    def rows(self, count):
        """Rows unlike any before."""
        found = tiny.rows(count, seed=self.made)
        for row in found:
            self.made += 1
            row["chosen"] += f" {self.made}"
        return found

    def add(self, name, count, end="\n"):
        """Add rows to a file; what they choose."""
        made = self.rows(count)
        with (self.files / name).open("a", newline="") as file:
            file.write("".join(json.dumps(row) + end for row in made))
        return [row["chosen"] for row in made]

    def train(self, *overrides, **named):
        return training.train(load_recipe(self.settings, overrides), **named)

    def learned(self):
        """How often each row was learned from."""
        rows = map(json.loads, (self.folder / "memory.jsonl").read_text().splitlines())
        return Counter(row["chosen"] for row in rows)


@pytest.fixture
def run(model_folder, tmp_path):
    return Run(model_folder, tmp_path)


def test_a_finished_run_takes_what_was_added_and_tells_of_it(run):
    rows = run.add("b.jsonl", 6)
    assert run.train().pairs_seen == 6
    rows += run.add("b.jsonl", 5) + run.add("a.jsonl", 3) + run.add("c.jsonl", 4)
    heard = []
    summary = run.train(listener=heard.append)
    told = next(event for event in heard if event["event"] == "more")
    files = run.files
    assert told["rows"] == {
        str(files / "a.jsonl"): 3, str(files / "b.jsonl"): 5, str(files / "c.jsonl"): 4,
    }  # fmt: skip
    assert summary.pairs_seen == 18 and run.learned() == Counter(rows)
    assert summary.data["read"] == 18
    before = (run.folder / "summary.json").read_bytes()
    assert [event["event"] for event in _heard(run)] == ["already_complete"]
    assert (run.folder / "summary.json").read_bytes() == before


def _heard(run, *overrides):
    heard = []
    run.train(*overrides, listener=heard.append)
    return heard


def test_a_run_that_grew_is_that_which_read_all_in_that_order(run, tmp_path, model_folder):
    """Where a batch is full when the first rows end, nothing tells the two apart."""
    run.add("a.jsonl", 8)
    run.train()
    run.add("b.jsonl", 8)
    run.train()
    (tmp_path / "other").mkdir()
    other = Run(model_folder, tmp_path / "other")
    shutil.copytree(run.files, other.files, dirs_exist_ok=True)
    other.train()
    assert tiny.same(tiny.adapters(run.folder), tiny.adapters(other.folder))


def test_a_stopped_run_takes_what_was_added_meanwhile(run):
    rows = run.add("a.jsonl", 10)
    token = StopToken()
    assert run.train(stop=token, listener=_at(1, token.stop)) is None
    rows += run.add("a.jsonl", 7)
    assert run.train().pairs_seen == 17 and run.learned() == Counter(rows)


def _at(step, do):
    """A listener that does something after a step."""

    def listen(event):
        if event["event"] == "step" and event["step"] == step:
            do()

    return listen


def test_a_block_that_was_begun_is_read_again_as_it_was(run):
    """Shuffled rows: the stop falls into a block that would be larger by now."""
    rows = run.add("a.jsonl", 10)
    run.settings["data"]["shuffle"] = 64
    token = StopToken()
    run.train(stop=token, listener=_at(1, token.stop))
    rows += run.add("a.jsonl", 9) + run.add("0.jsonl", 9)
    run.train()
    assert run.learned() == Counter(rows)


def test_rows_that_are_added_while_it_runs_are_left_for_the_next_time(run):
    rows = run.add("a.jsonl", 8)
    later = []
    run.train(listener=_at(1, lambda: later.extend(run.add("a.jsonl", 3))))
    assert run.learned() == Counter(rows)
    run.train()
    assert run.learned() == Counter(rows + later)


def test_rows_that_are_added_while_it_starts_are_not_lost(run, monkeypatch):
    """Between the files' opening and the note of what they held."""
    rows, built = run.add("a.jsonl", 8), run_module.build

    def build(*given):
        made = built(*given)
        rows.extend(run.add("a.jsonl", 3))
        return made

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "build", build)
        assert run.train().pairs_seen == 8
    assert run.train().pairs_seen == 11 and run.learned() == Counter(rows)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("change", ["a row", "shorter", "gone", "within a line", "another name"])
def test_what_is_not_added_at_an_end_is_refused(run, change, finished):
    run.add("a.jsonl", 8)
    run.add("b.jsonl", 1, end="")
    token = StopToken()
    run.train(stop=token, listener=_at(1, (lambda: None) if finished else token.stop))
    path = run.files / "a.jsonl"
    text = path.read_text()
    if change == "a row":
        path.write_text(text.replace("Describe", "describe", 1) + text)
    elif change == "shorter":
        path.write_text(text[: len(text) // 2])
    elif change == "gone":
        path.rename(run.folder.parent / "a.jsonl")
    elif change == "within a line":
        run.add("b.jsonl", 1)
    else:
        path.rename(run.files / "c.jsonl")
    before = _files(run.folder)
    with pytest.raises(StateError, match=r"the data of the run in .* changed since it began \("):
        run.train()
    assert _files(run.folder) == before


def _files(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["train.epochs=2"], "each row is passed 2 times"),
        (["train.max_steps=2"], "it has done its 2 steps; raise train.max_steps"),
        (["data.label_delay=4"], "its labels come late"),
    ],
)
def test_a_run_that_could_not_learn_each_new_row_once_says_so(run, overrides, reason):
    run.add("a.jsonl", 9)
    run.train(*overrides)
    run.add("a.jsonl", 4)
    with pytest.raises(StateError, match=f"a.jsonl: rows were added since .*{reason}"):
        run.train(*overrides)


def test_a_finished_run_does_more_steps_and_then_the_rest(run):
    rows = run.add("a.jsonl", 11)
    assert run.train("train.max_steps=1").steps == 1
    assert run.train("train.max_steps=2").steps == 2
    with pytest.raises(StateError, match=r"differs in train\.max_steps"):
        run.train("train.max_steps=1")
    assert run.train().steps == 3 and run.learned() == Counter(rows)
    assert [event["step"] for event in tiny.steps(run.folder)] == [1, 2, 3]


def test_without_its_checkpoints_a_finished_run_cannot_go_on(run):
    run.add("a.jsonl", 8)
    run.train()
    shutil.rmtree(run.folder / "checkpoints")
    assert run.train().pairs_seen == 8
    run.add("a.jsonl", 1)
    with pytest.raises(StateError, match="its checkpoints are gone"):
        run.train()
    assert (run.folder / "summary.json").exists()


def test_rows_added_to_a_part_that_others_were_built_on_are_refused(continual, tmp_path):
    files = {}
    for name in ("warm", "cold"):
        files[name] = str(tiny.write_rows(tmp_path / f"{name}.jsonl", tiny.domain_rows(name, 8)))
    domains = [{"name": name, "train": file} for name, file in files.items()]
    made = continual(f"continual.domains={json.dumps(domains)}")
    training.train(made)
    tiny.write_rows(Path(files["warm"]), tiny.domain_rows("warm", 9))
    with pytest.raises(StateError, match="warm.jsonl: rows were added .*a domain of their own"):
        training.train(made)


class Piped:
    """A run on standard input."""

    def __init__(self, run, monkeypatch):
        self.run, self.monkeypatch = run, monkeypatch
        run.settings["data"]["train"] = "-"

    def train(self, rows, **named):
        raw = io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())
        self.monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=raw))
        return self.run.train(**named)

    def counts(self, *given):
        return Counter(row["chosen"] for rows in given for row in rows)


@pytest.fixture
def piped(run, monkeypatch):
    return Piped(run, monkeypatch)


def test_rows_piped_into_a_finished_run_are_learned(piped):
    first, second = piped.run.rows(6), piped.run.rows(5)
    piped.train(first)
    assert piped.train(second).pairs_seen == 11
    assert piped.run.learned() == piped.counts(first, second)
    heard = []
    piped.train(first + second, listener=heard.append)
    (told,) = heard
    assert told["event"] == "already_complete" and told["repeated"] == 11


def test_rows_that_a_stopped_run_had_taken_are_learned_whatever_is_piped_then(piped):
    first, second = piped.run.rows(10), piped.run.rows(3)
    token = StopToken()
    assert piped.train(first, stop=token, listener=_at(1, token.stop)) is None
    summary = piped.train(second)
    assert summary.pairs_seen == 13 and piped.run.learned() == piped.counts(first, second)
    summary = piped.train(first + second + (third := piped.run.rows(2)))
    assert piped.run.learned() == piped.counts(first, second, third)
    assert summary.data["repeated"] == 13


def test_a_pipe_that_is_neither_new_nor_the_same_is_refused(piped):
    first, second = piped.run.rows(6), piped.run.rows(5)
    piped.train(first)
    with pytest.raises(StateError, match="row 3 of standard input is not the one that was piped"):
        piped.train(first[:2] + second)
    assert piped.train([]).pairs_seen == 6 and piped.run.learned() == piped.counts(first)


def test_rows_that_were_refused_before_the_first_step_are_not_kept(piped):
    with pytest.raises(DataError, match="no usable"):
        piped.train([{"prompt": "p", "chosen": "same", "rejected": "same"}])
    rows = piped.run.rows(4)
    piped.train(rows)
    assert piped.run.learned() == piped.counts(rows)


def test_a_followed_folder_is_learned_as_it_grows(run):
    rows = run.add("a.jsonl", 4)
    token, seen = StopToken(), []

    def listen(event):
        if event["event"] == "step":
            seen.append(event["pairs_seen"])

    heard = {"stop": token, "listener": listen}
    worker = threading.Thread(target=run.train, args=("data.follow=true",), kwargs=heard)
    worker.start()
    _until(lambda: seen == [4])
    with (run.files / "a.jsonl").open("a") as file:
        made = run.rows(4)
        rows += [row["chosen"] for row in made]
        text = "".join(json.dumps(row) + "\n" for row in made)
        file.write(text[:-20])
        file.flush()
        time.sleep(0.6)
        assert seen == [4], "half a line is no row yet"
        file.write(text[-20:])
    _until(lambda: seen == [4, 8])
    rows += run.add("0.jsonl", 4)
    _until(lambda: seen == [4, 8, 12])
    token.stop()
    worker.join()
    rows += run.add("a.jsonl", 1)
    token = StopToken()
    run.train("data.follow=true", "data.max_wait_s=0.1", stop=token, listener=_at(4, token.stop))
    shown = [event["pairs_seen"] for event in tiny.steps(run.folder)]
    assert shown == [4, 8, 12, 13]


def test_a_followed_folder_may_be_empty_at_first(run):
    token, seen = StopToken(), []
    heard = {"stop": token, "listener": lambda e: seen.append(e) if e["event"] == "step" else None}
    worker = threading.Thread(target=run.train, args=("data.follow=true",), kwargs=heard)
    worker.start()
    _until(lambda: run.folder.joinpath("config.yaml").exists())
    run.add("a.jsonl", 4)
    _until(lambda: seen)
    token.stop()
    worker.join()
    assert [event["pairs_seen"] for event in tiny.steps(run.folder)] == [4]


def _until(holds, seconds=60):
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_adapters_are_published_within_the_budget_while_it_learns_and_change_nothing(recipe):
    """The budget is small, so that what is published is scaled down and what is learned is not."""
    common = ("train.max_steps=6", "budget.reverse_kl=0.05", "eval.num_prompts=2")
    plain = recipe(*common)
    training.train(plain)
    folder = Path(plain.output_dir)
    before = tiny.adapters(folder)
    shutil.rmtree(folder)
    made, heard = recipe(*common, publish={"every": 2, "keep": 2}), []
    training.train(made, listener=heard.append)
    assert tiny.same(tiny.adapters(folder), before)
    told = [event for event in heard if event["event"] == "published"]
    assert [event["step"] for event in told] == [2, 4, 6] and told[-1]["strength"] < 1
    assert all(event["reverse_kl"] <= 0.05 * 1.15 for event in told)
    names = [path.name for path in sorted(folder.glob("published/*"))]
    assert names == ["step-00000004", "step-00000006"]
    last = load_file(folder / "published" / names[-1] / "adapter_model.safetensors")
    leader = json.loads((folder / "summary.json").read_text())["leader"]
    final = load_file(folder / "adapters" / leader / "adapter_model.safetensors")
    assert all(torch.equal(last[key], final[key]) for key in final)


def test_a_run_that_stops_where_it_published_still_has_every_evaluation(recipe, tmp_path):
    settings = ("train.max_steps=6", "eval.every=2", "eval.num_prompts=0", "publish.every=2")
    whole, part = (recipe(f"output_dir={tmp_path / name}", *settings) for name in ("whole", "part"))
    training.train(whole)
    token = StopToken()
    assert training.train(part, listener=_at(4, token.stop), stop=token) is None
    training.train(part)
    assert _logged(part) == _logged(whole)
    assert [step for event, step in _logged(whole) if event == "eval"] == [0, 2, 4, 6]


def _logged(made):
    lines = (Path(made.output_dir) / "events.jsonl").read_text().splitlines()
    return [(event["event"], event.get("step")) for event in map(json.loads, lines)]


def test_a_stopped_run_is_sampled_measured_and_exported_as_its_checkpoint_has_it(recipe, tmp_path):
    common = ("budget=null", "train.schedule=constant")
    ended = fastslow.train(recipe("train.max_steps=4", *common))
    made, token = recipe(f"output_dir={tmp_path / 'stopped'}", *common), StopToken()
    stopped = fastslow.train(made, stop=token, callback=_at(4, token.stop))
    assert stopped.status == "stopped"
    asked = {"prompts": ["Describe the river."], "max_new_tokens": 8, "seed": 3}
    assert stopped.generate(**asked) == ended.generate(**asked)
    assert stopped.evaluate() == ended.evaluate()
    assert stopped.export(tmp_path / "one") == ended.export(tmp_path / "two")
    first, second = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    check = stopped.merge_and_unload(tmp_path / "merged")
    assert check.effect > 0


def test_of_a_run_without_a_checkpoint_that_is_said(recipe):
    def stop(event):
        if event["event"] == "step":
            raise KeyboardInterrupt

    made = recipe()
    with pytest.raises(KeyboardInterrupt):
        training.train(made, listener=stop)
    with pytest.raises(StateError, match="has no checkpoint yet"):
        fastslow.Run.load(made.output_dir).generate(["Hi"])


class Growing(RuleBasedStateMachine):
    """Files that grow and new ones, runs that stop, die and go on: each row is learned once."""

    model: Path

    def __init__(self):
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.run = Run(self.model, self.place.name)
        self.rows = self.run.add("m.jsonl", 5)
        self.finished = False

    @rule(name=st.sampled_from(["a", "m", "z"]), count=st.integers(1, 9))
    def rows_are_added(self, name, count):
        self.rows += self.run.add(f"{name}.jsonl", count)

    @rule(shuffled=st.booleans())
    def it_runs_to_the_end(self, shuffled):
        self.run.train()
        assert self.run.learned() == Counter(self.rows)

    @rule(steps=st.integers(1, 3))
    def it_is_stopped(self, steps):
        token = StopToken()
        self._until(steps, token.stop, stop=token)

    @rule(steps=st.integers(1, 3))
    def it_dies(self, steps):
        def die():
            raise KeyboardInterrupt

        self._until(steps, die)

    def _until(self, steps, do, **named):
        taken = 0

        def listen(event):
            nonlocal taken
            taken += event["event"] == "step"
            if taken == steps:
                do()

        try:
            self.run.train(listener=listen, **named)
        except KeyboardInterrupt:
            pass

    @precondition(lambda self: (self.run.folder / "inputs.json").exists())
    @rule()
    def a_row_is_changed(self):
        path = self.run.files / "m.jsonl"
        before = path.read_bytes()
        path.write_bytes(before.replace(b"chosen", b"Chosen", 1) + before)
        began = any(self.run.folder.glob("checkpoints/step-*"))
        if began:
            with pytest.raises(StateError, match="changed since"):
                self.run.train()
        path.write_bytes(before)

    @invariant()
    def nothing_is_learned_twice(self):
        path = self.run.folder / "memory.jsonl"
        assert not path.exists() or max(self.run.learned().values(), default=1) == 1

    def teardown(self):
        self.run.train()
        assert self.run.learned() == Counter(self.rows)
        self.place.cleanup()


@pytest.mark.parametrize(
    "examples", [4, pytest.param(40, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_whatever_is_added_stopped_and_killed_each_row_is_learned_once(examples, model_folder):
    from hypothesis.stateful import run_state_machine_as_test

    Growing.model = model_folder
    run_state_machine_as_test(
        Growing,
        settings=settings(
            max_examples=examples,
            stateful_step_count=8,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
