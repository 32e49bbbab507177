"""RLOO: values and gradients by hand, and the exact policy gradient over a few answers."""

import math
from itertools import product

import pytest
import torch

from fastslow.errors import ConfigError
from fastslow.objectives import RankedLogps, make_objective


def lists(policy, reference, score, *, present=None, sampled=None):
    policy, reference, score = (
        torch.as_tensor(values, dtype=torch.float64) for values in (policy, reference, score)
    )
    extras = {"score": score}
    if sampled is not None:
        extras["sampled"] = torch.as_tensor(sampled, dtype=torch.float64)
    present = torch.ones_like(policy, dtype=torch.bool) if present is None else present
    length, rank = torch.ones_like(policy), torch.zeros_like(policy, dtype=torch.long)
    return RankedLogps(policy, reference, length, rank, present, extras)


def test_by_hand_where_the_policy_gave_the_answers_itself():
    policy = torch.tensor([[-1.0, -2.0, -3.0]], dtype=torch.float64, requires_grad=True)
    objective = make_objective("rloo", beta=0.5)
    out = objective(lists(policy, [[-2.0, -2.0, -2.0]], [[2.0, 1.0, 0.0]]))
    # R = 2 - 0.5 (1), 1 - 0, 0 + 0.5 (1) = 1.5, 1, 0.5; less the others' means 0.75, 1, 1.25.
    advantage = [0.75, 0.0, -0.75]
    assert out.loss.item() == pytest.approx(-sum(advantage) / 3, abs=1e-12)
    (gradient,) = torch.autograd.grad(out.loss.sum(), policy)
    assert gradient.tolist()[0] == pytest.approx([-a / 3 for a in advantage])


def test_ratios_beyond_the_clip_earn_nothing_more():
    policy = torch.tensor([[-1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    sampled = [[-1.0 - math.log(1.5), -2.0 - math.log(1.1)]]
    out = make_objective("rloo", beta=0.0)(
        lists(policy, [[0.0, 0.0]], [[1.0, 0.0]], sampled=sampled)
    )
    # A = 1 and -1; w = 1.5, clipped at 1.2, and 1.1, within.
    assert out.loss.item() == pytest.approx(-(1.2 - 1.1) / 2)
    (gradient,) = torch.autograd.grad(out.loss.sum(), policy)
    assert gradient.tolist()[0] == pytest.approx([0.0, 1.1 / 2])


def test_absent_answers_do_not_count():
    present = torch.tensor([[True, True, False], [True, False, False]])
    policy = torch.tensor([[-1.0, -2.0, 9.0], [-1.0, 9.0, 9.0]], requires_grad=True)
    out = make_objective("rloo")(
        lists(policy, policy.detach(), [[1.0, 3.0, 99.0], [5.0, 99.0, 99.0]], present=present)
    )
    (gradient,) = torch.autograd.grad(out.loss.sum(), policy)
    # A = -2, 2; alone there is nothing to be above.
    assert gradient.tolist() == [[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]


def test_a_constant_on_all_scores_of_a_prompt_changes_nothing():
    policy, reference = [[-1.0, -2.0, -4.0]], [[-1.5, -2.0, -3.0]]
    losses = [
        make_objective("rloo")(
            lists(policy, reference, [[1.0 + shift, shift, 2.0 + shift]], sampled=[[-1.1, -2, -4]])
        ).loss
        for shift in (0.0, 7.0)
    ]
    assert torch.allclose(*losses) and losses[0].abs() > 1e-3


@pytest.mark.parametrize("count", [2, 3])
def test_its_gradient_is_that_of_the_expected_reward_less_beta_times_the_kl(count):
    generator = torch.Generator().manual_seed(0)
    logits, other, reward = (torch.randn(4, generator=generator, dtype=torch.float64)
                             for _ in range(3))  # fmt: skip
    logits.requires_grad_()
    beta, policy, reference = 0.3, logits.log_softmax(-1), other.log_softmax(-1)
    wanted = (policy.exp() * (reward - beta * (policy - reference))).sum()
    objective = make_objective("rloo", beta=beta)
    total = torch.zeros((), dtype=torch.float64)
    for drawn in product(range(4), repeat=count):
        answers = list(drawn)
        probability = policy[answers].sum().exp().detach()
        given = lists(policy[None, answers], reference[None, answers], reward[None, answers])
        total = total + probability * objective(given).loss.mean()
    (expected,) = torch.autograd.grad(wanted, logits, retain_graph=True)
    (found,) = torch.autograd.grad(total, logits)
    assert torch.allclose(found, -expected, atol=1e-12) and expected.abs().max() > 0.01


@pytest.mark.parametrize(("name", "nll"), [("rloo", 0.1), ("rloo + 0.2 * sft", 0.0)])
def test_a_sum_with_it_means_something_for_the_policys_own_answers_only(name, nll):
    assert make_objective(name, nll_weight=nll).on_policy
    assert not make_objective("sdpo + 0.2 * sft").on_policy


def test_settings_out_of_range():
    for setting in ({"beta": -1.0}, {"clip": 0.0}):
        with pytest.raises(ConfigError, match="objective"):
            make_objective("rloo", **setting)
