"""The reference's scores are made in the first epoch only, and nothing else changes."""

from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from fastslow import training
from fastslow.records import Pair
from fastslow.scoring import Encoded, Scores, Tree
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.loop.reference_cache import ReferenceCache
from fastslow.training.policies.policies import Policies

EPOCHS = ("train.epochs=3", "eval.num_prompts=0", "train.batch_size=16", "eval.max_pairs=8")
STEPS = 6
"""Of an epoch."""


@pytest.fixture
def passes(monkeypatch):
    """Names of the policies of every forward pass."""
    seen, measure = [], Policies.measure

    def noted(self, name, batch, **settings):
        seen.append(name)
        return measure(self, name, batch, **settings)

    monkeypatch.setattr(Policies, "measure", noted)
    return seen


def test_only_the_first_epoch_scores_the_reference(recipe, passes):
    training.train(recipe(*EPOCHS, "data.eval=null"))
    gate = 1  # The first step's check scores the reference too.
    assert passes.count("base") == STEPS + gate
    assert passes.count("fast") == 3 * STEPS + gate


def test_the_update_is_the_same(recipe, tmp_path, monkeypatch):
    from fastslow.training import build

    runs = []
    for comes_again in (None, lambda recipe: False):
        if comes_again:
            monkeypatch.setattr(build, "_comes_again", comes_again)
        made = recipe(*EPOCHS, f"output_dir={tmp_path / str(len(runs))}")
        training.train(made)
        runs.append(tiny.adapters(made.output_dir))
    for name in ("fast", "slow"):
        for key, tensor in runs[0][name].items():
            torch.testing.assert_close(tensor, runs[1][name][key], atol=2e-4, rtol=1e-3)


def test_a_run_that_goes_on_knows_them_and_ends_with_the_same_bits(recipe, tmp_path, passes):
    whole = recipe(*EPOCHS, f"output_dir={tmp_path / 'whole'}")
    training.train(whole)
    parted = recipe(*EPOCHS, f"output_dir={tmp_path / 'parted'}")

    class Stopped(Exception):
        pass

    def stop(event):
        if event["event"] == "step" and event["step"] == STEPS + 3:
            raise Stopped

    with pytest.raises(Stopped):
        training.train(parted, listener=stop)
    (newest,) = sorted(Path(parted.output_dir).glob("checkpoints/*"))[-1:]
    kept = load_file(newest / "reference_cache.safetensors")
    assert len(kept["keys"]) == 96 and kept["lengths"].tolist() == [2] * 96
    passes.clear()
    training.train(parted)
    assert "base" not in passes[: 2 * STEPS // 3]
    assert tiny.same(tiny.adapters(whole.output_dir), tiny.adapters(parted.output_dir))


@pytest.mark.parametrize(
    "changes",
    [
        ("train.epochs=1",),
        ("train.epochs=2", "moving_reference.every=3", "moving_reference.share=0.5"),
    ],
)
def test_nothing_is_kept_where_it_would_be_of_no_use_or_wrong(recipe, changes):
    made = recipe(*changes)
    training.train(made)
    assert not list(Path(made.output_dir).glob("checkpoints/*/reference_cache.safetensors"))


def item(*responses):
    pair = Pair("p", "c", "r")
    return Encoded(example=pair, tree=Tree((1, 2), responses), truncated=False)


def test_lists_of_any_length_with_statistics_come_back_as_they_were():
    items = [item((1,), (2,)), item((3,), (4,), (5,)), item((6,))]
    scores = Scores(
        torch.arange(6.0), torch.zeros(6), {"entropy": torch.arange(6.0) / 7, "x": torch.ones(6)}
    )
    reference_cache = ReferenceCache(ProcessGroup())
    first, _ = reference_cache.measure(items, ["entropy", "x"], lambda: scores)
    assert torch.equal(first, scores.sums)
    reference_cache.share()
    other = ReferenceCache(ProcessGroup())
    other.load_tensors(reference_cache.tensors())
    swapped = [items[1], items[2], items[0]]
    sums, statistics = other.measure(swapped, ["entropy", "x"], pytest.fail)
    assert sums.tolist() == [2, 3, 4, 5, 0, 1]
    assert torch.equal(statistics["entropy"], torch.tensor([2.0, 3, 4, 5, 0, 1]) / 7)
    assert torch.equal(statistics["x"], torch.ones(6))


def test_other_responses_are_another_example():
    reference_cache = ReferenceCache(ProcessGroup())
    reference_cache.measure([item((1,), (2,))], [], lambda: Scores(torch.ones(2), torch.ones(2)))
    reference_cache.share()
    asked = []

    def score():
        asked.append(True)
        return Scores(torch.zeros(2), torch.zeros(2))

    reference_cache.measure([item((1, 2), ())], [], score)
    reference_cache.measure([item((2,), (1,))], [], score)
    assert len(asked) == 2
