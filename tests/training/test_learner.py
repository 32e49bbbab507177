"""The learner driven by hand: what a run does to the weights is its steps and nothing else."""

import json
import threading
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from tiny import components

from fastslow import training
from fastslow.config import load_recipe
from fastslow.errors import NonFiniteError
from fastslow.training.loop.signals import StopToken
from fastslow.training.policies.publish import publish_module
from fastslow.training.state.checkpoint import read_newest

RULE = "def score(prompt, answer):\n    return answer.count('e') - 0.1 * len(answer)\n"
SAMPLING = {"max_new_tokens": 6, "temperature": 1.5}
KINDS = {
    "plain": {"chase": None},
    "chase": {"chase": {"alpha": 0.05, "swap_every": 1}},
    "stages": {"stages": [{"name": "sft", "data": {"shuffle": 8}}, "preferences"]},
    "online": {"online": SAMPLING, "judge": True},
    "reward": {"task": "reward", "chase": None},
    "ppo": {
        "online": {**SAMPLING, "num_generations": 1, "num_iterations": 2},
        "judge": True,
        "objective": {"name": "ppo"},
        "chase": None,
    },
    "hypo": {"online_kl": {"weight": 0.1, "num_generations": 2, "max_new_tokens": 6}},
}


@pytest.fixture
def make(recipe, tmp_path):
    """Makes a recipe of five steps and a half; keyword arguments replace sections."""
    pairs = tiny.write_rows(tmp_path / "pairs.jsonl", tiny.rows(44, seed=6))
    rule = tmp_path / "rule.py"
    rule.write_text(RULE)

    def made(*overrides, judge=False, **sections):
        if judge:
            sections["judge"] = {"kind": "rule", "file": str(rule)}
        # What is handed over at the end of a run is not what its steps make.
        options = (f"data.train={pairs}", "data.eval=null", "lora.dropout=0.1", "budget=null")
        return recipe(*options, *overrides, **sections)

    return made


def learned(run, folder):
    """What a recipe's modules have become."""
    for name in run.learner.state.selector.modules:
        publish_module(run.learner.state.modules, name, folder / "adapters" / name)
    return tiny.adapters(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_by_hand_give_the_weights_of_the_run(make, tmp_path, kind):
    made = make(**KINDS[kind])
    summary = training.train(made)
    if kind == "stages":
        last = Path(made.output_dir) / "stages" / "02-preferences"
        made = load_recipe(last / "config.yaml")
    run = components(made.model_copy(update={"output_dir": str(tmp_path / "by-hand")}))
    results = [run.learner.step(batch) for batch in run.reader]
    assert all(result.updated for result in results) and len(results) == summary.steps > 4
    assert tiny.same(learned(run, tmp_path / "by-hand"), tiny.adapters(made.output_dir))
    logged = [step["loss"] for step in tiny.steps(made.output_dir)]
    assert logged == [result.metrics["loss"] for result in results]


def three_steps(learner, batches):
    found = [learner.step(next(batches)) for _ in range(3)]
    modules = learner.state.modules
    return [result.metrics for result in found], modules.digest(*modules.trainable)


@pytest.mark.parametrize("kind", ["plain", "chase", "online", "ppo"])
def test_the_same_steps_after_going_back_give_the_same_bits(make, kind):
    run = components(make("train.epochs=2", "data.shuffle=8", **KINDS[kind]))
    batches = iter(run.reader)
    run.learner.step(next(batches))
    snapshot = run.learner.snapshot()
    first = three_steps(run.learner, batches)
    run.learner.restore(snapshot)
    assert run.learner.state.step == 1
    assert three_steps(run.learner, batches) == first
    run.learner.restore(snapshot)
    assert three_steps(run.learner, batches) == first
    batches.close()


def test_a_module_published_on_the_way_is_that_of_the_checkpoint(make, tmp_path):
    made = make("checkpoint.every=2", "checkpoint.keep=9")
    training.train(made)
    run = components(made)
    for batch in run.reader:
        if run.learner.step(batch).step == 4:
            break
    publish_module(run.learner.state.modules, "fast", tmp_path / "published")
    found = load_file(tmp_path / "published" / "adapter_model.safetensors")
    kept = load_file(
        Path(made.output_dir) / "checkpoints" / "step-00000004" / "modules.safetensors"
    )
    kept = {key.replace(".fast.", "."): value for key, value in kept.items() if ".fast." in key}
    assert found.keys() == kept.keys() and found
    assert all(torch.equal(found[key], value) for key, value in kept.items())
    final = tiny.adapters(made.output_dir)["fast"]
    assert not all(torch.equal(found[key], value) for key, value in final.items())


def test_a_run_in_a_thread_stops_when_it_is_asked_and_goes_on_to_the_same_bits(make, tmp_path):
    whole, parted = (make(f"output_dir={tmp_path / name}") for name in ("whole", "parted"))
    training.train(whole)
    stop, reached, asked = StopToken(), threading.Event(), threading.Event()
    heard, summaries = [], []

    def listen(event):
        heard.append(event)
        if event["event"] == "step" and event["step"] == 3:
            reached.set()
            assert asked.wait(60)

    def work():
        summaries.append(training.train(parted, listener=listen, stop=stop))

    thread = threading.Thread(target=work)
    thread.start()
    assert reached.wait(60)
    stop.stop("enough")
    asked.set()
    thread.join(60)
    assert summaries == [None]
    assert heard[-1] == {"event": "stopped", "step": 3, "signal": "enough"}
    snapshot, _ = read_newest(Path(parted.output_dir) / "checkpoints")
    assert snapshot.facts["step"] == 3
    training.train(parted)
    assert tiny.same(tiny.adapters(whole.output_dir), tiny.adapters(parted.output_dir))


ONCE = """
from dataclasses import dataclass
from pathlib import Path

from torch.nn.functional import logsigmoid

from fastslow.objectives import Objective, ObjectiveOutput

ARMED = Path({armed!r})

@dataclass(frozen=True, kw_only=True)
class Once(Objective):
    beta: float = 0.1

    def __call__(self, logps):
        loss = -logsigmoid(self.beta * logps.delta)
        if loss.requires_grad and ARMED.exists():
            ARMED.unlink()
            loss = loss * float("nan")
        return ObjectiveOutput(
            loss=loss,
            chosen_reward=self.beta * logps.chosen_log_ratio.detach(),
            rejected_reward=self.beta * logps.rejected_log_ratio.detach(),
        )
"""


@pytest.fixture
def once(make, tmp_path):
    """Makes a run whose third batch gives NaN, its listener, and what that has heard."""
    path, armed, heard = tmp_path / "once.py", tmp_path / "armed", []
    path.write_text(ONCE.format(armed=str(armed)))

    def listen(event):
        heard.append(event)
        if event["event"] == "step" and event["step"] == 2:
            armed.touch()

    def made(*overrides):
        name = ("objective.name=Once", f"objective.file={path}", "chase=null")
        return make(*name, *overrides), listen, heard

    return made


def test_a_batch_that_gives_nan_is_set_aside_where_that_is_asked_for(once):
    made, listen, heard = once("train.skip_non_finite=true")
    summary = training.train(made, listener=listen)
    assert (summary.steps, summary.pairs_seen, summary.set_aside) == (5, 36, 8)
    (told,) = [
        event
        for event in heard
        if event["event"] == "warning" and "batch skipped" in event["message"]
    ]
    assert told["step"] == 2 and "step 3: the loss is nan" in told["message"]
    assert len(json.loads((Path(made.output_dir) / "failed-batch-3.json").read_text())) == 8


def test_a_batch_that_gives_nan_ends_the_run_otherwise(once):
    made, listen, heard = once()
    with pytest.raises(NonFiniteError, match="step 3: the loss is nan; nothing was updated"):
        training.train(made, listener=listen)
    assert [event["step"] for event in heard if event["event"] == "step"] == [1, 2]
