"""Entropy and collision of predictions, as trees and response by response, against dense logits."""

import math

import pytest
import tiny
import torch

from fastslow.scoring import STATISTICS, Layout, Scorer, Tree, tree_batch

TREES = [Tree((5, 6, 7), ((8, 9), (10,))), Tree((5, 11), ((12, 13, 14), (9, 8, 7, 6)))]


def dense(model, tree):
    """Means over each response's tokens, by softmax over the whole vocabulary."""
    for response in tree.responses:
        ids = torch.tensor([[*tree.prompt, *response]])
        logits = model(input_ids=ids).logits[0, len(tree.prompt) - 1 : -1].double()
        p = logits.softmax(-1)
        entropy = -(p * p.log()).sum(-1) / math.log(p.shape[-1])
        yield entropy.mean().item(), p.square().sum(-1).log().mean().item()


@pytest.mark.parametrize("trees", [True, False])
@torch.no_grad()
def test_statistics_are_those_of_the_dense_predictions(trees):
    model = tiny.model()
    scorer = Scorer(model, Layout(trees=trees))
    batch = tree_batch(TREES, pad_id=0)
    found = scorer.measure(batch, STATISTICS)
    expected = [pair for tree in TREES for pair in dense(model, tree)]
    assert found.statistics["entropy"].tolist() == pytest.approx([e for e, _ in expected], abs=1e-5)
    assert found.statistics["collision"].tolist() == pytest.approx(
        [c for _, c in expected], abs=1e-4
    )
    # Asking for them changes no sum, and not asking gives none.
    plain = scorer.measure(batch)
    assert torch.equal(plain.sums, found.sums) and plain.statistics == {}


@torch.no_grad()
def test_tokens_that_cannot_be_said_count_nothing():
    model = tiny.model()
    head = model.get_output_embeddings()
    whole = torch.nn.Linear(head.in_features, head.out_features + 2)
    whole.weight.copy_(torch.cat([head.weight, torch.ones_like(head.weight[:2])]))
    whole.bias.copy_(torch.tensor([0.0] * head.out_features + [-torch.inf] * 2))
    batch = tree_batch(TREES, pad_id=0)
    plain = Scorer(model).measure(batch, STATISTICS)
    model.set_output_embeddings(whole)
    found = Scorer(model).measure(batch, STATISTICS)
    share = math.log(head.out_features) / math.log(head.out_features + 2)
    torch.testing.assert_close(found.statistics["entropy"], share * plain.statistics["entropy"])
    torch.testing.assert_close(found.statistics["collision"], plain.statistics["collision"])


def test_statistics_carry_no_gradient():
    model = tiny.model().requires_grad_(True)
    found = Scorer(model).measure(tree_batch(TREES, pad_id=0), STATISTICS)
    assert found.sums.requires_grad
    assert not any(values.requires_grad for values in found.statistics.values())


def test_a_uniform_prediction_has_entropy_one_and_the_collision_of_its_size():
    model = tiny.model()
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
        found = Scorer(model).measure(tree_batch(TREES, pad_id=0), STATISTICS)
    size = model.get_output_embeddings().weight.shape[0]
    assert found.statistics["entropy"].tolist() == pytest.approx([1.0] * 4, abs=1e-6)
    assert found.statistics["collision"].tolist() == pytest.approx([-math.log(size)] * 4, abs=1e-5)
