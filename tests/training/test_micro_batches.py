"""Runs whose memory runs out go on with less of it, to the same end."""

import json
import sys
from pathlib import Path

import fork_server
import pytest
import tiny
import torch

from fastslow import training
from fastslow.errors import StateError
from fastslow.training.memory.micro_batches import MicroBatches
from fastslow.training.policies.policies import Policies

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")


@pytest.fixture
def room(monkeypatch):
    """Room for so many examples in one pass with gradients, and what was tried."""
    tried, measure = [], Policies.measure

    def make(examples, *, error=FULL):
        def limited(self, name, batch, *, learning=False, **settings):
            if learning:
                tried.append(len(batch.trees))
            found = measure(self, name, batch, learning=learning, **settings)
            if learning and name == "slow" and len(batch.trees) > examples:
                raise error
            return found

        monkeypatch.setattr(Policies, "measure", limited)
        return tried

    return make


def warnings(folder):
    lines = (Path(folder) / "events.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] == "warning"]
    return [event["message"] for event in events if "memory" in event["message"]]


def test_halved_until_it_fits_with_the_same_update(recipe, room, tmp_path):
    asked = ["train.max_steps=4", f"output_dir={tmp_path / 'asked'}", "train.micro_batch_size=2"]
    training.train(recipe(*asked))
    tried = room(3)
    made = recipe("train.max_steps=4")
    training.train(made)
    assert tried == [8, 8, 4, 4] + [2] * 8 * 4
    assert tiny.same(tiny.adapters(made.output_dir), tiny.adapters(tmp_path / "asked"))
    first, second = warnings(made.output_dir)
    assert "micro-batch 8;" in first and "micro_batch_size: 4" in first
    assert "micro-batch 4;" in second and "micro_batch_size: 2" in second


def test_a_single_example_that_does_not_fit_stops_the_run_and_says_what_helps(recipe, room):
    room(0)
    with pytest.raises(StateError, match=r"micro-batch 1:.*gradient_checkpointing.*max_length"):
        training.train(recipe("train.max_steps=4"))


def test_an_objective_that_needs_its_batch_whole_is_not_given_less(recipe, room):
    room(3)
    with pytest.raises(StateError, match=r"whole batch: lower train.batch_size"):
        training.train(recipe("train.max_steps=4", "objective.name=beta_dpo"))


def test_other_errors_are_not_taken_for_full_memory(recipe, room):
    room(3, error=RuntimeError("the weights are cursed"))
    with pytest.raises(RuntimeError, match="cursed"):
        training.train(recipe("train.max_steps=4"))


def test_odd_sizes_are_halved_upwards_and_split_covers_everything():
    heard, failures = [], [RuntimeError("CUDA out of memory. Tried")] * 2
    micro = MicroBatches(7)
    undone = []

    def attempt():
        if failures:
            raise failures.pop()
        return micro.split(range(7))

    found = micro.retry_on_oom(attempt, undo=lambda: undone.append(True), warn=heard.append)
    assert found == [[0, 1], [2, 3], [4, 5], [6]]
    assert len(heard) == len(undone) == 2


SCRIPT = """
import resource, sys
import torch
from fastslow import training
from fastslow.training.policies.policies import Policies
measure = Policies.measure
def limited(self, name, batch, *, learning=False, **settings):
    if learning and len(batch.trees) > 32:  # As much as a larger model would ask for.
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), resource.RLIM_INFINITY))
        torch.empty(1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return measure(self, name, batch, learning=learning, **settings)
Policies.measure = limited
training.train(sys.argv[1])
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: needs a limit on memory")
def test_when_the_system_gives_no_more(recipe, tmp_path):
    made = recipe("train.max_steps=2", "train.batch_size=64", "lora.rank=64", "eval.num_prompts=0")
    written = tmp_path / "recipe.yaml"
    written.write_text(made.model_dump_json())
    done = fork_server.run("-c", SCRIPT, written)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "micro-batch 64;" in warnings(made.output_dir)[0]
