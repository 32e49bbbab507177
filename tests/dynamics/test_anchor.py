"""The penalty that holds weights near an anchor, against sums done by hand."""

import pytest
import torch

from fastslow.dynamics import anchor_penalty

WEIGHTS = [[1.0, 2.0], [-3.0]]
ANCHORS = [[0.5, 4.0], [-1.0]]
FISHER = [[2.0, 0.25], [3.0]]


def tensors(values, *, learning=False):
    return [torch.tensor(v, dtype=torch.float64, requires_grad=learning) for v in values]


def test_values_and_gradients_by_hand():
    weights = tensors(WEIGHTS, learning=True)
    plain = anchor_penalty(weights, tensors(ANCHORS), None, strength=0.5)
    assert plain.item() == pytest.approx(0.25 * (0.25 + 4 + 4))
    plain.backward()
    assert [w.grad.tolist() for w in weights] == [[0.25, -1.0], [-1.0]]

    weights = tensors(WEIGHTS, learning=True)
    weighed = anchor_penalty(weights, tensors(ANCHORS), tensors(FISHER), strength=0.5)
    assert weighed.item() == pytest.approx(0.25 * (2 * 0.25 + 0.25 * 4 + 3 * 4))
    weighed.backward()
    assert [w.grad.tolist() for w in weights] == [[0.5, -0.25], [-3.0]]


@pytest.mark.parametrize("fisher", [None, FISHER])
def test_at_the_anchor_there_is_neither_penalty_nor_pull(fisher):
    weights = tensors(ANCHORS, learning=True)
    importance = fisher and tensors(fisher)
    penalty = anchor_penalty(weights, tensors(ANCHORS), importance, strength=9.0)
    penalty.backward()
    assert penalty.item() == 0.0
    assert all(not weight.grad.any() for weight in weights)


def test_equal_importances_of_one_are_l2_sp():
    ones = [torch.ones_like(w) for w in tensors(WEIGHTS)]
    results = []
    for importance in (None, ones):
        weights = tensors(WEIGHTS, learning=True)
        penalty = anchor_penalty(weights, tensors(ANCHORS), importance, strength=0.7)
        penalty.backward()
        results.append((penalty.item(), [w.grad.tolist() for w in weights]))
    assert results[0] == results[1]


def test_the_penalty_grows_with_the_strength_in_proportion():
    given = tensors(WEIGHTS), tensors(ANCHORS), tensors(FISHER)
    one = anchor_penalty(*given, strength=1.0)
    for strength in (1e-6, 2.0, 1e6):
        assert anchor_penalty(*given, strength=strength).item() == pytest.approx(
            strength * one.item(), rel=1e-12
        )


def test_gradients_reach_the_weights_only():
    anchors, importance = tensors(ANCHORS, learning=True), tensors(FISHER, learning=True)
    weights = tensors(WEIGHTS, learning=True)
    anchor_penalty(weights, anchors, importance, strength=1.0).backward()
    assert all(anchor.grad is None for anchor in anchors)


def test_lists_that_do_not_match_are_refused():
    with pytest.raises(ValueError):
        anchor_penalty(tensors(WEIGHTS), tensors(ANCHORS)[:1], None, strength=1.0)
