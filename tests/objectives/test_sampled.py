"""The reverse KL on the policy's own answers: exact expectations over a small set of answers."""

from itertools import product

import pytest
import torch
from torch.nn.functional import logsigmoid

from fastslow.objectives.sampled import (
    leave_one_out,
    reverse_kl_surrogate,
    sampled_reverse_kl,
)

ANSWERS = 5


def f64(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def exact_kl(logits, reference):
    policy, against = logits.log_softmax(-1), reference.log_softmax(-1)
    return (policy.exp() * (policy - against)).sum()


def expected(logits, reference, loss, count):
    """E over all ways to draw `count` answers of a loss of their log-probs under both, [1, K]."""
    policy, against = logits.log_softmax(-1), reference.log_softmax(-1)
    total = torch.zeros((), dtype=torch.float64)
    for drawn in product(range(ANSWERS), repeat=count):
        answers = list(drawn)
        probability = policy[answers].sum().exp().detach()
        total = total + probability * loss(policy[None, answers], against[None, answers]).mean()
    return total


def gradient(value, logits):
    return torch.autograd.grad(value, logits)[0]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_its_gradient_is_that_of_the_kl_with_and_without_a_baseline(count):
    logits, reference = f64(ANSWERS, seed=0).requires_grad_(), f64(ANSWERS, seed=1)
    wanted = gradient(exact_kl(logits, reference), logits)
    found = gradient(expected(logits, reference, reverse_kl_surrogate, count), logits)
    assert torch.allclose(found, wanted, atol=1e-12)
    assert wanted.abs().max() > 0.01


def test_the_estimate_of_the_kl_itself_is_unbiased():
    logits, reference = f64(ANSWERS, seed=0), f64(ANSWERS, seed=1)
    found = expected(logits, reference, sampled_reverse_kl, 2)
    assert found.item() == pytest.approx(exact_kl(logits, reference).item(), rel=1e-12)


def test_other_estimators_differentiated_are_something_else():
    """k1 has no gradient, k2 has that of the reverse KL, k3 that of the forward KL."""
    logits, reference = f64(ANSWERS, seed=0).requires_grad_(), f64(ANSWERS, seed=1)
    reverse = gradient(exact_kl(logits, reference), logits)
    policy, against = logits.log_softmax(-1), reference.log_softmax(-1)
    forward = gradient((against.exp() * (against - policy)).sum(), logits)
    k1 = gradient(expected(logits, reference, lambda p, r: p - r, 1), logits)
    k2 = gradient(expected(logits, reference, lambda p, r: 0.5 * (p - r) ** 2, 1), logits)
    k3 = gradient(expected(logits, reference, lambda p, r: (r - p).exp() - 1 - (r - p), 1), logits)
    assert torch.allclose(k1, torch.zeros_like(k1), atol=1e-12)
    assert torch.allclose(k2, reverse, atol=1e-12)
    assert torch.allclose(k3, forward, atol=1e-12)


def test_leaving_one_out():
    values = torch.tensor([[1.0, 3.0], [5.0, 5.0]])
    assert leave_one_out(values).tolist() == [[-2.0, 2.0], [0.0, 0.0]]
    three = torch.tensor([[1.0, 2.0, 6.0]])
    # 1 - (2 + 6) / 2, 2 - (1 + 6) / 2, 6 - (1 + 2) / 2
    assert leave_one_out(three).tolist() == [[-3.0, -1.5, 4.5]]
    assert torch.equal(leave_one_out(three + 10), leave_one_out(three))
    assert leave_one_out(torch.tensor([[4.0]])).tolist() == [[4.0]]


def test_at_the_reference_there_is_nothing_to_learn_and_no_gradient_goes_through_the_ratio():
    policy = f64(4, 3, seed=0).requires_grad_()
    at_home = reverse_kl_surrogate(policy, policy.detach())
    assert not at_home.any() and not gradient(at_home.sum(), policy).any()
    reference = f64(4, 3, seed=1)
    found = gradient(reverse_kl_surrogate(policy, reference).sum(), policy)
    assert torch.equal(found, leave_one_out((policy - reference).detach()))


# The coverage experiment of the HyPO paper: pairs compare two of five answers only.

BETA = 0.5
SEEN, UNSEEN = [0, 1], [2, 3, 4]


def trained(features, *, kl_weight, steps=2000):
    """DPO on one pair, plus the exact reverse KL; probabilities of answers before and after."""
    weights = torch.zeros(features.shape[1], dtype=torch.float64, requires_grad=True)
    base = torch.tensor([0.3, 0.3, 0.2, 0.15, 0.05], dtype=torch.float64).log()
    optimizer = torch.optim.Adam([weights], lr=0.05)
    for _ in range(steps):
        policy = (base + features @ weights).log_softmax(-1)
        delta = (policy - base)[SEEN[0]] - (policy - base)[SEEN[1]]
        loss = -logsigmoid(BETA * delta)
        if kl_weight:
            loss = loss + kl_weight * (policy.exp() * (policy - base)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy = (base + features @ weights).log_softmax(-1)
    return base.exp(), policy.exp().detach()


def test_without_function_approximation_dpo_leaves_unseen_answers_in_proportion():
    """A table's gradient touches what was compared; the unseen keep their ratios."""
    base, policy = trained(torch.eye(5, dtype=torch.float64), kl_weight=0.0)
    assert torch.allclose(policy[UNSEEN] / policy[UNSEEN].sum(), base[UNSEEN] / base[UNSEEN].sum())


def test_with_shared_features_dpo_moves_mass_to_answers_that_no_pair_covers_and_the_kl_holds_it():
    """An unseen answer has more of the feature that the pair rewards: DPO runs off to it."""
    features = torch.tensor([[1.0], [0.0], [0.5], [0.0], [3.0]], dtype=torch.float64)
    base, offline = trained(features, kl_weight=0.0)
    _, hybrid = trained(features, kl_weight=0.3)
    assert base[4] < 0.06 and offline[4] > 0.95
    assert hybrid[4] < 0.5
    # It still prefers what people preferred, more than the base does.
    assert hybrid[SEEN[0]] / hybrid[SEEN[1]] > base[SEEN[0]] / base[SEEN[1]] + 0.2
