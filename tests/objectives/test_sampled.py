"""The reverse KL on the policy's own answers: exact expectations over a small set of answers."""

from itertools import product

import pytest
import torch
from torch.nn.functional import logsigmoid

from fastslow.objectives.sampled import (
    less_other_prompts,
    reverse_kl_surrogate,
    sampled_reverse_kl,
)

ANSWERS = 5


def f64(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def leave_one_out(values):
    """The paper's baseline: each value less the mean of its prompt's others (RLOO, 2402.14740)."""
    count = values.shape[1]
    return values if count == 1 else (values - values.mean(1, keepdim=True)) * count / (count - 1)


def exact_kl(logits, reference):
    """Mean over prompts, of logits [P, V]."""
    policy, against = logits.log_softmax(-1), reference.log_softmax(-1)
    return (policy.exp() * (policy - against)).sum(-1).mean()


def expected(logits, reference, loss, count):
    """E over all ways to draw `count` answers to each prompt of a loss of log-probs, [P, K]."""
    policy, against = logits.log_softmax(-1), reference.log_softmax(-1)
    prompts = len(logits)
    total = torch.zeros((), dtype=torch.float64)
    for drawn in product(range(ANSWERS), repeat=prompts * count):
        answers = torch.tensor(drawn).view(prompts, count)
        own = policy.gather(1, answers)
        probability = own.sum().exp().detach()
        total = total + probability * loss(own, against.gather(1, answers)).mean()
    return total


def gradient(value, logits):
    return torch.autograd.grad(value, logits)[0]


def with_baseline(baseline):
    return lambda policy, reference: reverse_kl_surrogate(policy, baseline(policy - reference))


@pytest.mark.parametrize("baseline", [torch.clone, leave_one_out, less_other_prompts])
@pytest.mark.parametrize(("prompts", "count"), [(1, 1), (1, 3), (2, 1), (2, 2), (3, 1)])
def test_its_gradient_is_that_of_the_kl_with_any_baseline(prompts, count, baseline):
    logits = f64(prompts, ANSWERS, seed=0).requires_grad_()
    reference = f64(prompts, ANSWERS, seed=1)
    wanted = gradient(exact_kl(logits, reference), logits)
    found = gradient(expected(logits, reference, with_baseline(baseline), count), logits)
    assert torch.allclose(found, wanted, atol=1e-12)
    assert wanted.abs().max() > 0.01


def test_the_mean_of_other_prompts():
    values = torch.tensor([[1.0, 3.0], [5.0, 5.0], [0.0, 2.0]])
    # 1 - (5 + 5 + 0 + 2) / 4, and so on.
    assert less_other_prompts(values).tolist() == [[-2.0, 0.0], [3.5, 3.5], [-3.5, -1.5]]
    assert torch.equal(less_other_prompts(values + 10), less_other_prompts(values))
    assert less_other_prompts(values[:1]).tolist() == [[1.0, 3.0]]


def test_the_mean_of_other_prompts_takes_variance_away_where_answers_have_moved_far():
    """Sixteen prompts, two answers each, all of whose log-ratios are around their mean: exact
    variance of a gradient whose scores do not depend on them."""
    generator = torch.Generator().manual_seed(0)
    variances = {}
    for baseline in (torch.clone, leave_one_out, less_other_prompts):
        log_ratio = 2 + 2 * torch.randn(4000, 16, 2, generator=generator, dtype=torch.float64)
        scores = torch.randn(4000, 16, 2, generator=generator, dtype=torch.float64)
        weighted = torch.stack([baseline(one) for one in log_ratio]) * scores
        variances[baseline] = weighted.mean((1, 2)).var().item()
    # (2^2 + 2^2) without one, 2 x 2^2 with the other answer, 2^2 (1 + 1/30) with the other prompts.
    assert variances[torch.clone] * 32 == pytest.approx(8, rel=0.1)
    assert variances[leave_one_out] * 32 == pytest.approx(8, rel=0.1)
    assert variances[less_other_prompts] * 32 == pytest.approx(4 * 31 / 30, rel=0.1)


def test_the_estimate_of_the_kl_itself_is_unbiased():
    logits, reference = f64(1, ANSWERS, seed=0), f64(1, ANSWERS, seed=1)
    found = expected(logits, reference, lambda p, r: sampled_reverse_kl(p - r), 2)
    assert found.item() == pytest.approx(exact_kl(logits, reference).item(), rel=1e-12)


def test_other_estimators_differentiated_are_something_else():
    """k1 has no gradient, k2 has that of the reverse KL, k3 that of the forward KL."""
    logits, reference = f64(1, ANSWERS, seed=0).requires_grad_(), f64(1, ANSWERS, seed=1)
    reverse = gradient(exact_kl(logits, reference), logits)
    policy, against = logits.log_softmax(-1), reference.log_softmax(-1)
    forward = gradient((against.exp() * (against - policy)).sum(), logits)
    k1 = gradient(expected(logits, reference, lambda p, r: p - r, 1), logits)
    k2 = gradient(expected(logits, reference, lambda p, r: 0.5 * (p - r) ** 2, 1), logits)
    k3 = gradient(expected(logits, reference, lambda p, r: (r - p).exp() - 1 - (r - p), 1), logits)
    assert torch.allclose(k1, torch.zeros_like(k1), atol=1e-12)
    assert torch.allclose(k2, reverse, atol=1e-12)
    assert torch.allclose(k3, forward, atol=1e-12)


def test_at_the_reference_there_is_nothing_to_learn_and_no_gradient_goes_through_the_ratio():
    policy = f64(4, 3, seed=0).requires_grad_()
    at_home = reverse_kl_surrogate(policy, less_other_prompts(policy - policy.detach()))
    assert not at_home.any() and not gradient(at_home.sum(), policy).any()
    coefficients = less_other_prompts(policy - f64(4, 3, seed=1))
    found = gradient(reverse_kl_surrogate(policy, coefficients).sum(), policy)
    assert torch.equal(found, coefficients.detach())


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
