"""Regret from a policy trained for several passes, where the exact minimum is known."""

import pytest
import torch

from fastslow.bench.comparators import PASSES, regret
from fastslow.objectives import PairLogps, make_objective

PAIRS, FEATURES, BETA = 2048, 6, 1.0
DPO = make_objective("dpo", beta=BETA)


@pytest.fixture(scope="module")
def stream():
    """Differences of features, the better answer's first, as a noisy taste says: [T, F]."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(PAIRS, FEATURES, generator=generator, dtype=torch.float64)
    taste = torch.tensor([1.5, -1.0, 0.5, 0.0, 0.0, 0.25], dtype=torch.float64)
    chance = torch.sigmoid(features @ taste)
    wins = torch.rand(PAIRS, generator=generator, dtype=torch.float64) < chance
    return torch.where(wins[:, None], features, -features)


def losses(weights, pairs):
    """DPO of a log-linear policy, whose log-ratios are linear in its weights: convex, [B]."""
    zero, length = torch.zeros(len(pairs), dtype=torch.float64), torch.ones(len(pairs))
    return DPO(PairLogps(pairs @ weights, zero, zero, zero, length, length)).loss


def descend(pairs, rate, passes=1):
    """Gradient descent pair by pair: losses before each step, the weights at the end, and the
    squared norms of the gradients. Over several passes the rate falls to 0."""
    weights, found, slopes = torch.zeros(FEATURES, dtype=torch.float64), [], []
    total = passes * len(pairs)
    for step in range(total):
        pair = pairs[step % len(pairs)][None]
        weights.requires_grad_()
        loss = losses(weights, pair).sum()
        (slope,) = torch.autograd.grad(loss, weights)
        falling = 1 - step / total if passes > 1 else 1.0
        weights = (weights - rate * falling * slope).detach()
        found.append(loss.item())
        slopes.append(slope.square().sum().item())
    return found, weights, slopes


def least(pairs):
    """The exact minimum of the mean loss, by Newton's method, and where it is."""
    weights = torch.zeros(FEATURES, dtype=torch.float64)
    for _ in range(20):
        weights.requires_grad_()
        mean = losses(weights, pairs).mean()
        (slope,) = torch.autograd.grad(mean, weights)
        bend = torch.autograd.functional.hessian(lambda w: losses(w, pairs).mean(), weights)
        weights = (weights - torch.linalg.solve(bend, slope)).detach()
    assert slope.abs().max() < 1e-12
    return losses(weights, pairs).mean().item(), weights


def test_several_passes_bound_the_minimum_from_above_and_the_regret_from_below(stream):
    online, _, _ = descend(stream, 0.3)
    _, fixed, _ = descend(stream, 0.05, passes=PASSES)
    (exact, _), trained = least(stream), losses(fixed, stream).mean().item()
    assert exact <= trained < exact + 1e-3
    bound, true = (regret(online, PAIRS, loss) for loss in (trained, exact))
    assert 0 < bound <= true < bound + 2
    assert true == pytest.approx(sum(online) - PAIRS * exact)


@pytest.mark.parametrize("end", [128, 512, 2048])
@pytest.mark.parametrize("rate", [0.03, 0.1, 0.3])
def test_the_regret_of_gradient_descent_is_within_its_bound(stream, end, rate):
    """R_T <= |w*|^2 / (2 rate) + rate / 2 sum |g_t|^2, for convex losses from w = 0."""
    online, _, slopes = descend(stream[:end], rate)
    exact, best = least(stream[:end])
    bound = best.square().sum().item() / (2 * rate) + rate / 2 * sum(slopes)
    assert 0 < regret(online, end, exact) <= bound
