"""Momentum on a tabular policy whose rounds are learned exactly: what APO promises and what not."""

import pytest
import torch

from fastslow.adapters import Factors
from fastslow.objectives import PairLogps, make_objective
from fastslow.training.rounds import carried

BETA = 4.0
REWARDS = torch.linspace(0.0, 4.0, 6, dtype=torch.float64)
FIRST = torch.tensor([2.0, 1.5, 1.0, 0.5, 0.2, 0.0], dtype=torch.float64).log_softmax(0)
"""The best answer is the one that the first policy gives least."""


def learned_from(policy):
    """The exact minimiser of DPO over all pairs that the policy may give, labelled by the reward.

    Newton's method on the objective itself, in float64.
    """
    count = len(REWARDS)
    better, worse = (index.flatten() for index in torch.meshgrid(*[torch.arange(count)] * 2))
    shares = policy[better].exp() * policy[worse].exp()
    shares = shares * torch.sigmoid(REWARDS[better] - REWARDS[worse])
    objective = make_objective("dpo", beta=BETA)

    def loss(logits):
        scores = logits.log_softmax(0)
        lengths = torch.ones(count * count)
        pairs = PairLogps(
            scores[better], scores[worse], policy[better], policy[worse], lengths, lengths
        )
        return (objective(pairs).loss * shares).sum()

    logits = policy.clone()
    for _ in range(30):
        logits.requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(logits), logits)
        bend = torch.autograd.functional.hessian(loss, logits)
        logits = (logits - torch.linalg.pinv(bend) @ slope).detach()
    return logits.log_softmax(0)


def as_factors(logits):
    """The update that the first policy needs to become this one, of a layer with one input."""
    change = (logits - FIRST)[:, None]
    return Factors({"logits": (torch.ones(1, 1, dtype=torch.float64), change)}, ("logits",))


def learned_policies(momentum, rounds):
    policy, before, found = FIRST, None, []
    for _ in range(rounds):
        learned = learned_from(policy)
        found.append(learned)
        update = carried(as_factors(learned), before, momentum).update("logits")[:, 0]
        policy = (FIRST + update).log_softmax(0)
        before = as_factors(learned)
    return found


def along(rounds):
    """The policy that this many exact rounds without momentum make."""
    return (FIRST + rounds * REWARDS / BETA).log_softmax(0)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.6, 1.0])
def test_rounds_add_up_as_a_heavy_ball(momentum):
    done = [1.0, 2 + momentum]
    while len(done) < 5:
        done.append(done[-1] + 1 + momentum * (done[-1] - done[-2]))
    assert done[2] == pytest.approx(3 + 2 * momentum + momentum**2)
    for learned, count in zip(learned_policies(momentum, 5), done, strict=True):
        assert torch.allclose(learned, along(count), atol=1e-9)


def missing(policy):
    return (REWARDS.max() - policy.exp() @ REWARDS).item()


def test_two_rounds_are_worth_three_at_a_momentum_of_one_only():
    plain = missing(learned_policies(0.0, 3)[2])
    assert missing(learned_policies(1.0, 2)[1]) == pytest.approx(plain, abs=1e-8)
    assert missing(learned_policies(0.3, 2)[1]) > plain + 0.1
    # Each round goes further with momentum, and all go along the same line.
    gaps = [missing(learned_policies(momentum, 4)[-1]) for momentum in (0.0, 0.3, 0.6)]
    assert gaps == sorted(gaps, reverse=True)
