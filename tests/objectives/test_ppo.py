"""PPO and ESPO: advantages and losses by hand, and the exact policy gradient over all answers."""

from itertools import product

import pytest
import torch

from fastslow.errors import ConfigError
from fastslow.objectives import TokenLogps, make_objective
from fastslow.objectives.ppo import gae
from fastslow.testing import checks

WORDS, LENGTH = 3, 2
TOKENS = [list(answer) for answer in product(range(WORDS), repeat=LENGTH)]


def tensor(values):
    return torch.as_tensor(values, dtype=torch.float64)


def logps(policy, sampled, advantage, present=None):
    """One prompt with the answers of [K, T] tensors."""
    policy, sampled, advantage = (tensor(values)[None] for values in (policy, sampled, advantage))
    present = torch.ones_like(policy, dtype=torch.bool) if present is None else present[None]
    sums = (policy * present).sum(2)
    return TokenLogps(
        policy=sums,
        reference=torch.zeros_like(sums),
        length=present.sum(2),
        rank=torch.zeros_like(sums, dtype=torch.long),
        present=torch.ones_like(sums, dtype=torch.bool),
        policy_tokens=policy,
        sampled_tokens=sampled,
        advantage=advantage,
        token_present=present,
    )


def test_advantages_by_hand():
    reward, values = tensor([[1.0, 2.0, 4.0]]), tensor([[0.5, 1.0, 3.0]])
    found = gae(reward, values, discount=0.9, gae_lambda=0.5)
    # Surprises: 1 + 0.9 (1) - 0.5 = 1.4; 2 + 0.9 (3) - 1 = 3.7; 4 - 3 = 1. Each is carried by 0.45.
    assert found.tolist()[0] == pytest.approx([1.4 + 0.45 * (3.7 + 0.45), 3.7 + 0.45, 1.0])


def test_without_a_critic_and_at_one_an_advantage_is_the_sum_of_what_follows():
    reward = tensor([[1.0, 2.0, 4.0]])
    found = gae(reward, torch.zeros_like(reward), discount=1.0, gae_lambda=1.0)
    assert found.tolist() == [[7.0, 6.0, 4.0]]


def test_the_score_is_earned_by_the_last_token_and_the_kl_by_each():
    present = torch.tensor([[True, True, True], [True, False, False]])
    sampled, reference = tensor([[-1.0, -2, -3], [-1, 9, 9]]), tensor([[-2.0, -2, -1], [-3, 5, 7]])
    objective = make_objective("ppo", beta=0.5, gae_lambda=1.0, whiten=False)
    found = objective.appraise(
        tensor([10.0, 20.0]), sampled, reference, tensor([[1.0, 2, 3], [4, 99, 99]]), present
    )
    # Rewards -0.5 (1, 0, -2) with 10 at the end: -0.5, 0, 11; and -0.5 (2) + 20 = 19.
    returns = [[10.5, 11.0, 11.0], [19.0, 0.0, 0.0]]
    assert found.returns.tolist() == returns
    assert found.advantage.tolist() == [[9.5, 9.0, 8.0], [15.0, 0.0, 0.0]]


def test_whitened_advantages_have_mean_0_and_variance_1_whatever_is_padded():
    present = torch.tensor([[True, True, True], [True, False, False]])
    zeros = torch.zeros(2, 3, dtype=torch.float64)
    for pad in (0.0, 50.0):
        values = torch.where(present, tensor([[1.0, -2, 0.3], [4, 0, 0]]), pad)
        found = make_objective("ppo").appraise(tensor([1.0, -1.0]), zeros, zeros, values, present)
        there = found.advantage[present]
        assert there.mean().abs() < 1e-12 and there.square().mean() == pytest.approx(1)
        assert not found.advantage[~present].any()


def test_ratios_beyond_the_clip_earn_nothing_more_but_espo_goes_on():
    policy = tensor([[0.5, -0.5, 0.1]]).requires_grad_()
    given = logps(policy, [[0.0, 0.0, 0.0]], [[1.0, -1.0, 2.0]])
    weights = policy.exp().tolist()[0]
    out = make_objective("ppo")(given)
    assert out.loss.item() == pytest.approx(-(1.2 - 0.8 + 2 * weights[2]))
    (gradient,) = torch.autograd.grad(out.loss.sum(), policy)
    assert gradient.tolist()[0] == pytest.approx([0, 0, -2 * weights[2]])
    out = make_objective("espo")(given)
    (gradient,) = torch.autograd.grad(out.loss.sum(), policy)
    assert gradient.tolist()[0] == pytest.approx([-weights[0], weights[1], -2 * weights[2]])


def test_how_far_the_policy_has_left_is_a_mean_over_the_tokens_there():
    present = torch.tensor([[True, True], [True, False]])
    given = logps([[0.1, -0.2], [0.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]], torch.zeros(2, 2), present)
    espo = make_objective("espo", max_deviation=0.1)
    sums = {name: float(value) for name, value in espo.observe(given).items()}
    away = [tensor(0.1).exp() - 1, 1 - tensor(-0.2).exp(), tensor(0.0)]
    assert espo.metrics(sums) == {"ratio_deviation": pytest.approx(sum(away).item() / 3)}
    assert not espo.exceeds_max_ratio(espo.metrics(sums))
    assert espo.exceeds_max_ratio({"ratio_deviation": 0.11})
    assert not make_objective("ppo").exceeds_max_ratio({"ratio_deviation": 100.0})


def test_values_that_move_far_from_what_they_were_earn_nothing_more():
    values = tensor([[1.0, 3.0]]).requires_grad_()
    present = torch.ones(1, 2, dtype=torch.bool)
    loss = make_objective("ppo").value_loss(
        values, tensor([[1.1, 0.0]]), tensor([[2.0, 10.0]]), present
    )
    # (1 - 2)^2, and of 3, clipped to 0.2: (0.2 - 10)^2.
    assert loss.item() == pytest.approx(0.5 * (1 + 9.8**2) / 2)
    (gradient,) = torch.autograd.grad(loss.sum(), values)
    assert gradient.tolist()[0] == pytest.approx([-0.5, 0.0])


@pytest.mark.parametrize("name", ["ppo", "espo"])
@pytest.mark.parametrize("count", [1, 2])
def test_the_gradient_is_that_of_the_expected_score_less_beta_times_the_kl(name, count):
    """In a world of all answers of two words, whatever the critic says."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    logits, other = draw(1 + WORDS, WORDS), draw(1 + WORDS, WORDS)
    score, critic, beta = draw(len(TOKENS)), draw(1 + WORDS), 0.3
    logits.requires_grad_()

    def of_tokens(table):
        """Log-probs of each word of each answer; a word depends on the one before, [9, 2]."""
        rows = table.log_softmax(-1)
        return torch.stack([torch.stack([rows[0, a], rows[1 + a, b]]) for a, b in TOKENS])

    policy, reference = of_tokens(logits), of_tokens(other)
    values = torch.stack([torch.stack([critic[0], critic[1 + a]]) for a, _ in TOKENS])
    kl = policy.sum(1) - reference.sum(1)
    wanted = (policy.sum(1).exp() * (score - beta * kl)).sum()
    objective = make_objective(name, beta=beta, gae_lambda=1.0, whiten=False)
    total = tensor(0.0)
    for drawn in product(range(len(TOKENS)), repeat=count):
        own = list(drawn)
        then = policy[own].detach()
        present = torch.ones_like(then, dtype=torch.bool)
        found = objective.appraise(score[own], then, reference[own], values[own], present)
        loss = objective(logps(policy[own], then, found.advantage)).loss
        total = total + then.sum().exp() * loss.sum()
    (expected,) = torch.autograd.grad(wanted, logits, retain_graph=True)
    (gradient,) = torch.autograd.grad(total, logits)
    assert torch.allclose(gradient, -expected, atol=1e-12) and expected.abs().max() > 0.01


@pytest.mark.parametrize(
    ("name", "hyper"), [("ppo + 0.1 * sft", {}), ("espo", {"nll_weight": 0.1})]
)
def test_they_are_no_part_of_a_sum(name, hyper):
    with pytest.raises(ConfigError, match="has a critic and cannot be part of a sum"):
        make_objective(name, **hyper)


def test_checks_of_other_objectives_know_nothing_of_tokens():
    with pytest.raises(ValueError, match="takes tokens"):
        checks(make_objective("ppo"))


def test_bad_settings_and_shapes_are_refused():
    for name, setting in (
        ("ppo", {"beta": -1.0}), ("ppo", {"clip": 0.0}), ("ppo", {"gae_lambda": 1.5}),
        ("espo", {"max_deviation": 0.0}), ("espo", {"clip": 0.2}), ("ppo", {"value_clip": 0}),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="objective"):
            make_objective(name, **setting)
    with pytest.raises(ValueError, match=r"advantage has shape .* must be \[B, K, T\]"):
        logps([[0.0]], [[0.0]], [[0.0, 0.0]])
