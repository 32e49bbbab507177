"""Labels other than a plain pair: ties, rankings, thumbs up and down, demonstrations."""

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from fastslow.errors import ConfigError
from fastslow.objectives import (
    DemonstrationLogps,
    PairLogps,
    RankedLogps,
    RatedLogps,
    make_objective,
)

LN2, LN3 = math.log(2), math.log(3)
RANKED = ("sdpo", "plackett_luce", "exo_ranked")
RATED = ("kto", "bco")
TIES = ("davidson", "rao_kupper")


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def pairs(log_ratios, *, tie=None, dtype=torch.float64):
    """Pairs of these (h_w, h_l) under a reference of zeros."""
    chosen, rejected = torch.tensor(log_ratios, dtype=dtype).unbind(1)
    zero, length = torch.zeros_like(chosen), torch.ones_like(chosen)
    extras = {} if tie is None else {"tie": torch.tensor(tie)}
    return PairLogps(chosen, rejected, zero, zero, length, length, extras)


def ranking(log_ratios, *, rank=None, present=None, score=None, dtype=torch.float64):
    """Rankings with these h, [B, K], under a reference of zeros; in order if no rank is given."""
    policy = torch.tensor(log_ratios, dtype=dtype)
    order = torch.arange(policy.shape[1]).expand_as(policy)
    return RankedLogps(
        policy,
        torch.zeros_like(policy),
        torch.ones_like(policy),
        order if rank is None else torch.tensor(rank),
        torch.ones_like(order, dtype=torch.bool) if present is None else torch.tensor(present),
        {"score": torch.tensor(0.0 if score is None else score, dtype=dtype).expand_as(policy)},
    )


def ratings(log_ratios, desirable, *, mismatched=None, dtype=torch.float64, state=None):
    policy = torch.tensor(log_ratios, dtype=dtype)
    zero = torch.zeros_like(policy)
    means = zero if mismatched is None else torch.tensor(mismatched, dtype=dtype)
    extras = {"mismatched_log_ratio": means}
    liked = torch.tensor(desirable)
    return RatedLogps(policy, zero, torch.ones_like(policy), liked, extras, state or {})


def loss(name, logps, **hyper):
    return make_objective(name, **hyper)(logps).loss


def softplus(x):
    return math.log(1 + math.exp(x))


# By hand. h_w = 2 and h_l = -3 make Delta = 5 and, with beta = 0.1, u = 0.5.


def test_ties_by_hand():
    logps = pairs([[2.0, -3.0]] * 2, tie=[0.0, 1.0])
    # e^0.25 + e^-0.25 + 1 = 1.284025 + 0.778801 + 1 = 3.062826, whose logarithm is 1.119338
    total = 3.062826200
    win, tie = loss("davidson", logps).tolist()
    assert win == pytest.approx(math.log(total) - 0.25, abs=1e-9)
    assert tie == pytest.approx(math.log(total), abs=1e-9)
    # t = log 3: the win has probability 1 / (1 + 3 e^-0.5), the loss 1 / (1 + 3 e^0.5), and the tie
    # (9 - 1) times their product
    won, lost = 1 / (1 + 3 * math.exp(-0.5)), 1 / (1 + 3 * math.exp(0.5))
    win, tie = loss("rao_kupper", logps).tolist()
    assert win == pytest.approx(-math.log(won), abs=1e-12)
    assert tie == pytest.approx(-math.log(8 * won * lost), abs=1e-12)
    assert won + lost + 8 * won * lost == pytest.approx(1, abs=1e-12)


def test_rankings_by_hand():
    # all equal: one of 4 comes first with 1/4
    assert loss("sdpo", ranking([[5.0] * 4])).item() == pytest.approx(math.log(4), abs=1e-12)
    # beta h = log 2, 0, 0: the first comes first with 2/4
    logps = ranking([[LN2, 0.0, 0.0]])
    assert loss("sdpo", logps, beta=1.0).item() == pytest.approx(LN2, abs=1e-12)
    # and then the second with 1/2
    assert loss("plackett_luce", logps, beta=1.0).item() == pytest.approx(2 * LN2, abs=1e-12)
    # 3 equal strengths have 3! orders
    even = loss("plackett_luce", ranking([[1.0, 1.0, 1.0]])).item()
    assert even == pytest.approx(math.log(6), abs=1e-12)
    # p = 1/4, 3/4 against scores that are equal: 1/4 log(1/2) + 3/4 log(3/2)
    by_scores = loss("exo_ranked", ranking([[0.0, LN3]]), beta=1.0).item()
    assert by_scores == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=1e-12)


def test_equal_ranks_by_hand():
    # Equal strengths. Two that share the first rank: each is the first of 3.
    both_first = ranking([[0.0] * 3], rank=[[0, 0, 1]])
    assert loss("plackett_luce", both_first).item() == pytest.approx(2 * LN3, abs=1e-12)
    # Two that share the last: one is the first of 3 and that is all that is known.
    both_last = ranking([[0.0] * 3], rank=[[0, 1, 1]])
    assert loss("plackett_luce", both_last).item() == pytest.approx(LN3, abs=1e-12)
    # Nothing but equals says nothing.
    equal = ranking([[3.0, -2.0]], rank=[[0, 0]])
    assert loss("plackett_luce", equal).item() == 0


def test_ratings_by_hand():
    # z = 1; 1 - sigmoid(0.1 (2 - 1)) = 1 / (1 + e^0.1); 1 - sigmoid(0.1 (1 + 3))
    logps = ratings([2.0, -3.0], [True, False], mismatched=[1.0, 1.0])
    liked, disliked = 1 / (1 + math.exp(0.1)), 1 / (1 + math.exp(0.4))
    assert loss("kto", logps).tolist() == pytest.approx([liked, disliked], abs=1e-12)
    weights = {"desirable_weight": 2.0, "undesirable_weight": 3.0}
    doubled = loss("kto", logps, **weights).tolist()
    assert doubled == pytest.approx([2 * liked, 3 * disliked], abs=1e-12)
    # -logsigmoid(0.2) and -logsigmoid(0.3) with d = 0
    assert loss("bco", logps).tolist() == pytest.approx([softplus(-0.2), softplus(-0.3)], abs=1e-12)
    # d = 0.1 * 5 / 10 = 0.05: 0.2 - 0.05 and 0.05 + 0.3
    later = replace(logps, state={"total": 5.0, "count": 10.0})
    expected = [softplus(-0.15), softplus(-0.35)]
    assert loss("bco", later).tolist() == pytest.approx(expected, abs=1e-12)


def test_sft_by_hand():
    # s = -10 over 4 tokens; the reference and other responses do not matter
    s, n, unknown = f64([-10.0]), f64([4.0]), f64([math.nan])
    demonstration = DemonstrationLogps(s, unknown, n)
    pair = PairLogps(s, f64([-8.0]), unknown, unknown, n, f64([2.0]))
    rows = [torch.stack(row, 1) for row in ([s, unknown], [unknown] * 2, [n, unknown])]
    ranks = RankedLogps(*rows, torch.tensor([[0, 1]]), torch.tensor([[True, False]]))
    for logps in (demonstration, pair, ranks):
        out = make_objective("sft", beta=0.5)(logps)
        assert (out.loss.item(), out.chosen_reward.item()) == (2.5, -5.0)
        assert out.rejected_reward.item() == 0
        assert loss("sft", logps, reduction="sum").item() == 10.0
    assert make_objective("sft").needs_lengths and not make_objective("sft").needs_reference
    assert not make_objective("sft", reduction="sum").needs_lengths


def test_rewards_by_hand():
    out = make_objective("plackett_luce", beta=0.5)(
        ranking([[2.0, -3.0, -1.0, 99.0]], present=[[True, True, True, False]])
    )
    # the best's, and the mean of -1.5 and -0.5
    assert (out.chosen_reward.item(), out.rejected_reward.item()) == (1.0, -1.0)
    out = make_objective("bco", beta=0.5)(ratings([2.0, -3.0], [True, False]))
    assert out.chosen_reward.tolist() == [1.0, 0.0] and out.rejected_reward.tolist() == [0.0, -1.5]


def test_where_policy_is_reference_the_loss_is_the_known_constant():
    same = ratings([0.0, 0.0], [True, False])
    weighted = loss("kto", same, desirable_weight=3.0, undesirable_weight=0.5)
    assert weighted.tolist() == [1.5, 0.25]
    assert loss("bco", same).tolist() == pytest.approx([LN2, LN2], abs=1e-12)
    even = pairs([[0.0, 0.0]] * 2, tie=[0.0, 1.0])
    # a third each; and a quarter, a quarter and a half
    assert loss("davidson", even).exp().tolist() == pytest.approx([3, 3], abs=1e-12)
    assert loss("rao_kupper", even).exp().tolist() == pytest.approx([4, 2], abs=1e-12)


# Probabilities.


@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("davidson", {}),
        ("davidson", {"prevalence": 0.01}),
        ("davidson", {"prevalence": 50.0}),
        ("rao_kupper", {}),
        ("rao_kupper", {"threshold": 1e-3}),
        ("rao_kupper", {"threshold": 8.0}),
    ],
)
def test_win_loss_and_tie_sum_to_one(name, hyper):
    u = np.linspace(-20, 20, 161)
    rows, n = np.stack([u, 0 * u], 1), len(u)
    won, tied = (pairs(rows, tie=[flag] * n) for flag in (0.0, 1.0))
    outcomes = (won, won.swapped(), tied)
    total = sum((-loss(name, outcome, beta=1.0, **hyper)).exp() for outcome in outcomes)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-12, atol=1e-12)
    # a tie says as much whichever response comes first
    torch.testing.assert_close(loss(name, tied, **hyper), loss(name, tied.swapped(), **hyper))


def test_all_orders_of_four_responses_sum_to_one():
    strengths = np.random.default_rng(0).normal(0, 3, 4)
    orders = ranking(np.array(list(permutations(strengths))))
    total = (-loss("plackett_luce", orders, beta=0.7)).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)
    # and so do the four that can be the best of all
    firsts = ranking(np.stack([np.roll(strengths, shift) for shift in range(4)]))
    assert (-loss("sdpo", firsts, beta=0.7)).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_a_ranking_is_its_first_choice_and_the_ranking_of_the_rest():
    h = np.random.default_rng(1).normal(0, 9, (5, 4))
    whole, first = loss("plackett_luce", ranking(h)), loss("sdpo", ranking(h))
    rest = loss("plackett_luce", ranking(h[:, 1:]))
    torch.testing.assert_close(whole, first + rest, rtol=1e-12, atol=1e-12)


# Against NumPy in float64, written row by row.


def log_sigmoid(x):
    return -np.logaddexp(0, -x)


def sdpo_row(h, **_):
    return np.log(np.exp(h - h[0]).sum())


def plackett_luce_row(h, rank, **_):
    return sum(
        np.log(np.exp(h[rank >= rank[i]]).sum()) - h[i]
        for i in range(len(h))
        if rank[i] < rank.max()
    )


def exo_row(h, score, **_):
    p, q = np.exp(h) / np.exp(h).sum(), np.exp(score) / np.exp(score).sum()
    return (p * np.log(p / q)).sum()


ROWS = {"sdpo": sdpo_row, "plackett_luce": plackett_luce_row, "exo_ranked": exo_row}


def random_rankings(seed, rows=8, width=5):
    """Rankings with equal ranks and of unequal numbers of responses, the first row of only one."""
    generator = np.random.default_rng(seed)
    policy, reference = generator.normal(-60, 9, (2, rows, width))
    rank = np.sort(generator.integers(0, 4, (rows, width)), axis=1)
    rank -= rank[:, :1]
    counts = generator.integers(2, width + 1, rows)
    counts[0], counts[1] = 1, width
    present = np.arange(width) < counts[:, None]
    score = generator.normal(0, 0.2, (rows, width))
    length = torch.ones(rows, width)
    return RankedLogps(
        f64(policy),
        f64(reference),
        length,
        torch.tensor(rank),
        torch.tensor(present),
        {"score": f64(score)},
    )


def numpy_rankings(name, logps, policy, beta):
    arrays = (logps.reference, logps.rank, logps.extras["score"], logps.present)
    values = []
    for s, r, rank, score, here in zip(policy, *(a.numpy() for a in arrays), strict=True):
        h = beta * (s - r)[here]
        values.append(ROWS[name](h, rank=rank[here], score=score[here] / 0.1))
    return np.array(values)


def central_differences(function, at, step=1e-4):
    """Gradient of the function's sum."""
    slopes = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        there = [at.copy(), at.copy()]
        there[0][place] += step
        there[1][place] -= step
        slopes[place] = (function(there[0]) - function(there[1])).sum() / (2 * step)
    return slopes


def gradient(objective, logps):
    policy = logps.policy.clone().requires_grad_()
    objective(replace(logps, policy=policy)).loss.sum().backward()
    return policy.grad


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beta", [0.05, 0.4])
@pytest.mark.parametrize("name", RANKED)
def test_rankings_against_numpy(name, beta, seed):
    logps, objective = random_rankings(seed), make_objective(name, beta=beta)

    def reference(policy):
        return numpy_rankings(name, logps, policy, beta)

    policy = logps.policy.numpy()
    values = objective(logps).loss.numpy()
    np.testing.assert_allclose(values, reference(policy), rtol=1e-10, atol=1e-10)
    slopes = central_differences(reference, policy)
    np.testing.assert_allclose(gradient(objective, logps).numpy(), slopes, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", RANKED)
def test_responses_that_are_absent_change_nothing(name):
    logps, objective = random_rankings(7), make_objective(name)
    out, slopes = objective(logps), gradient(objective, logps)
    assert not slopes[~logps.present].any()
    for rubbish in (1e30, -math.inf, math.nan):
        other = replace(
            logps,
            policy=logps.policy.masked_fill(~logps.present, rubbish),
            reference=logps.reference.masked_fill(~logps.present, -rubbish),
            rank=logps.rank.masked_fill(~logps.present, 99),
            extras={"score": logps.extras["score"].masked_fill(~logps.present, rubbish)},
        )
        changed = objective(other)
        assert torch.equal(changed.loss, out.loss)
        assert torch.equal(changed.rejected_reward, out.rejected_reward)
        assert torch.equal(gradient(objective, other), slopes)
        assert torch.equal(other.delta, logps.delta)
        assert torch.equal(other.policy_margin, logps.policy_margin)


@pytest.mark.parametrize("name", RANKED)
def test_one_response_alone_says_nothing(name):
    logps, objective = random_rankings(3), make_objective(name)
    assert logps.present[0].sum() == 1
    assert objective(logps).loss[0] == 0 and not gradient(objective, logps)[0].any()


def test_the_gradient_of_sdpo_is_beta_times_the_softmax_less_the_label():
    h = [[2.0, -3.0, 0.5]]
    q = torch.softmax(0.1 * f64(h), 1)
    expected = 0.1 * (q - f64([[1.0, 0.0, 0.0]]))
    torch.testing.assert_close(gradient(make_objective("sdpo"), ranking(h)), expected)


@pytest.mark.parametrize("name", RANKED)
def test_rankings_know_differences_alone(name):
    logps = random_rankings(5)
    moved = replace(
        logps,
        policy=logps.policy + 7.0,
        reference=logps.reference - 2.0,
        extras={"score": logps.extras["score"] + 3.0},
    )
    torch.testing.assert_close(loss(name, moved), loss(name, logps), rtol=1e-10, atol=1e-10)


def test_the_order_of_the_others_does_not_matter_to_sdpo():
    h = np.random.default_rng(2).normal(0, 5, (6, 4))
    torch.testing.assert_close(
        loss("sdpo", ranking(h)), loss("sdpo", ranking(h[:, [0, 3, 1, 2]])), rtol=1e-12, atol=1e-12
    )


def random_ratings(seed, rows=9):
    generator = np.random.default_rng(seed)
    policy, reference = generator.normal(-60, 9, (2, rows))
    return RatedLogps(
        f64(policy),
        f64(reference),
        torch.ones(rows),
        torch.tensor(generator.random(rows) < 0.6),
        {"mismatched_log_ratio": f64(generator.normal(1, 2, rows))},
        {"total": 40.0, "count": 16.0},
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beta", [0.05, 0.4])
def test_ratings_against_numpy(beta, seed):
    logps = random_ratings(seed)
    policy, r = logps.policy.numpy(), logps.reference.numpy()
    sign = np.where(logps.desirable.numpy(), 1.0, -1.0)
    z = np.maximum(0.0, logps.extras["mismatched_log_ratio"].numpy())

    def kto(s):
        weight = np.where(sign > 0, 1.5, 0.7)
        return weight * (1 - np.exp(log_sigmoid(sign * beta * (s - r - z))))

    def bco(s):
        return -log_sigmoid(sign * (beta * (s - r) - beta * 40 / 16))

    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.7}
    for name, reference, hyper in (("kto", kto, weights), ("bco", bco, {})):
        objective = make_objective(name, beta=beta, **hyper)
        values = objective(logps).loss.numpy()
        np.testing.assert_allclose(values, reference(policy), rtol=1e-10, atol=1e-10)
        slopes = central_differences(reference, policy)
        np.testing.assert_allclose(gradient(objective, logps).numpy(), slopes, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_ties_against_numpy(seed):
    generator = np.random.default_rng(seed)
    sw, sl, rw, rl = generator.normal(-60, 25, (4, 30))
    tie = generator.random(30) < 0.4
    lengths = [torch.ones(30)] * 2
    logps = PairLogps(*map(f64, (sw, sl, rw, rl)), *lengths, {"tie": f64(tie * 1.0)})

    def davidson(sw, beta=0.2, v=0.6):
        a, b = np.exp(beta * (sw - rw) / 2), np.exp(beta * (sl - rl) / 2)
        # strengths a^2 and b^2: wins a^2, b^2 and ties v a b, over their sum
        return -np.log(np.where(tie, v * a * b, a**2) / (a**2 + b**2 + v * a * b))

    def rao_kupper(sw, beta=0.2, t=0.6):
        a, b = np.exp(beta * (sw - rw)), np.exp(beta * (sl - rl))
        won, lost = a / (a + math.exp(t) * b), b / (b + math.exp(t) * a)
        return -np.log(np.where(tie, (math.exp(2 * t) - 1) * won * lost, won))

    for name, reference, hyper in (
        ("davidson", davidson, {"prevalence": 0.6}),
        ("rao_kupper", rao_kupper, {"threshold": 0.6}),
    ):
        objective = make_objective(name, beta=0.2, **hyper)
        chosen = f64(sw).requires_grad_()
        values = objective(replace(logps, policy_chosen=chosen)).loss
        np.testing.assert_allclose(values.detach(), reference(sw), rtol=1e-10, atol=1e-10)
        values.sum().backward()
        slopes = central_differences(reference, sw)
        np.testing.assert_allclose(chosen.grad, slopes, rtol=1e-6, atol=1e-8)


# Reductions.


def random_pairs(seed, rows, dtype=torch.float64, **extras):
    sums = np.random.default_rng(seed).normal(-60, 25, (4, rows))
    tensors = [torch.tensor(row, dtype=dtype) for row in sums]
    return PairLogps(*tensors, *[torch.ones(rows, dtype=dtype)] * 2, extras)


def pair_gradients(name, logps, **hyper):
    sums = [logps.policy_chosen.clone().requires_grad_(), logps.policy_rejected.clone()]
    sums[1].requires_grad_()
    out = make_objective(name, **hyper)(
        replace(logps, policy_chosen=sums[0], policy_rejected=sums[1])
    )
    out.loss.mean().backward()
    return [out.loss, out.chosen_reward, out.rejected_reward, *(s.grad for s in sums)]


def assert_identical(first, second):
    for a, b in zip(first, second, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "hyper"), [("rao_kupper", {"threshold": 0.0}), ("davidson", {"prevalence": 0.0})]
)
def test_without_ties_these_are_dpo_bit_for_bit(name, hyper, dtype):
    logps = random_pairs(0, 50, dtype, tie=torch.ones(50))
    assert not make_objective(name, **hyper).learns_ties and make_objective(name).learns_ties
    assert_identical(pair_gradients(name, logps, **hyper), pair_gradients("dpo", logps))


def test_few_ties_are_nearly_dpo():
    logps = random_pairs(0, 50)
    for name, hyper in (("davidson", {"prevalence": 1e-12}), ("rao_kupper", {"threshold": 1e-12})):
        torch.testing.assert_close(loss(name, logps, **hyper), loss("dpo", logps))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["sdpo", "plackett_luce"])
def test_rankings_of_two_are_dpo_bit_for_bit(name, dtype):
    for rows in (*range(1, 20), 257):
        two = random_pairs(rows, rows, dtype)
        policy = torch.stack([two.policy_chosen, two.policy_rejected], 1).requires_grad_()
        reference = torch.stack([two.reference_chosen, two.reference_rejected], 1)
        order, length = torch.tensor([[0, 1]] * rows), torch.ones(rows, 2)
        logps = RankedLogps(policy, reference, length, order, order >= 0)
        out = make_objective(name)(logps)
        out.loss.mean().backward()
        found = [out.loss, out.chosen_reward, out.rejected_reward, *policy.grad.unbind(1)]
        assert_identical(found, pair_gradients("dpo", two))
        assert torch.equal(logps.delta, logps.log_ratio[:, 0] - logps.log_ratio[:, 1])


@pytest.mark.parametrize("e", [1e-3, 0.2])
def test_ranked_exo_of_two_with_the_scores_of_labels_is_exo(e):
    two = random_pairs(1, 40)
    score = f64([[0.3 * math.log(1 - e), 0.3 * math.log(e)]] * 40)
    policy = torch.stack([two.policy_chosen, two.policy_rejected], 1)
    reference = torch.stack([two.reference_chosen, two.reference_rejected], 1)
    order, length = torch.tensor([[0, 1]] * 40), torch.ones(40, 2)
    logps = RankedLogps(policy, reference, length, order, order >= 0, {"score": score})
    torch.testing.assert_close(
        loss("exo_ranked", logps, temperature=0.3),
        loss("exo", two, label_smoothing=e),
        rtol=1e-12,
        atol=1e-12,
    )


def test_ranked_exo_is_least_where_policy_and_scores_agree():
    score = np.random.default_rng(3).normal(0, 1, (5, 4))
    # beta h = score / temperature, up to a constant
    there = ranking(2 * score + 4.0, score=score)
    objective = make_objective("exo_ranked", beta=0.25, temperature=2.0)
    torch.testing.assert_close(objective(there).loss, torch.zeros(5, dtype=torch.float64))
    assert gradient(objective, there).abs().max() < 1e-12
    assert (objective(ranking(3 * score, score=score)).loss > 0).all()


def test_bco_before_its_first_step_is_unshifted_bit_for_bit():
    objective = make_objective("bco")
    logps = random_ratings(0)
    fresh = objective(replace(logps, state=objective.initial_state())).loss
    assert torch.equal(fresh, objective(replace(logps, state={})).loss)
    assert not torch.equal(fresh, objective(logps).loss)


def test_the_baseline_of_kto_is_not_negative_and_has_no_gradient():
    logps, objective = random_ratings(0), make_objective("kto")

    def with_mismatched(values):
        return replace(logps, extras={"mismatched_log_ratio": values})

    below, zero = (with_mismatched(torch.full((9,), v)) for v in (-5.0, 0.0))
    assert torch.equal(objective(below).loss, objective(zero).loss)
    tracked = torch.full((9,), 2.0, requires_grad=True)
    policy = logps.policy.clone().requires_grad_()
    objective(replace(with_mismatched(tracked), policy=policy)).loss.sum().backward()
    assert tracked.grad is None and policy.grad.abs().min() > 0
    with pytest.raises(ValueError, match="extras.'mismatched_log_ratio'.*the extras are: none"):
        objective(replace(logps, extras={}))


# Numbers that are far apart, and derivatives.


def extremes(name, dtype):
    gaps = [1e4, -1e4, 0.0]
    if name in TIES:
        flags = [0.0, 1.0] * 3
        return pairs([[gap, 0.0] for gap in gaps for _ in range(2)], tie=flags, dtype=dtype)
    if name in RANKED:
        rows = [[gap, 0.0, -gap] for gap in gaps]
        return ranking(rows, score=rows, dtype=dtype)
    rows = [gap for gap in gaps for _ in range(2)]
    return ratings(rows, [True, False] * 3, mismatched=rows, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("beta", [0.1, 5.0])
@pytest.mark.parametrize("name", [*TIES, *RANKED, *RATED])
def test_values_and_gradients_are_finite_far_out(name, beta, dtype):
    logps = extremes(name, dtype)
    first = "policy_chosen" if name in TIES else "policy"
    policy = getattr(logps, first).clone().requires_grad_()
    out = make_objective(name, beta=beta)(replace(logps, **{first: policy}))
    out.loss.sum().backward()
    assert out.loss.dtype == torch.float32 and policy.grad.dtype == dtype
    for values in (out.loss, out.chosen_reward, out.rejected_reward, policy.grad):
        assert values.isfinite().all()
    assert (out.loss >= -1e-6).all()


def test_small_losses_keep_their_size_in_float32():
    wide, narrow = (pairs([[40.0, 0.0]], dtype=dtype) for dtype in (torch.float64, torch.float32))
    for name in TIES:
        exact = loss(name, wide, beta=1.0).item()
        assert 0 < exact < 1e-8
        assert loss(name, narrow, beta=1.0).item() == pytest.approx(exact, rel=1e-5)
    wide, narrow = (ranking([[80.0, 40.0, 0.0]], dtype=d) for d in (torch.float64, torch.float32))
    for name in ("sdpo", "plackett_luce"):
        exact = loss(name, wide, beta=1.0).item()
        assert loss(name, narrow, beta=1.0).item() == pytest.approx(exact, rel=1e-5)


def test_the_extremes_of_how_often_people_tie():
    logps = pairs([[3.0, 0.0]] * 2, tie=[0.0, 1.0])
    for name, key in (("davidson", "prevalence"), ("rao_kupper", "threshold")):
        for value in (1e-300, 1e-9, 1e3):
            assert loss(name, logps, **{key: value}).isfinite().all()


@pytest.mark.parametrize("name", [*RANKED, *RATED])
def test_gradcheck_of_rankings_and_ratings(name):
    logps = random_rankings(0) if name in RANKED else random_ratings(0)
    objective = make_objective(name)
    policy = logps.policy.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: objective(replace(logps, policy=s)).loss, policy)


@pytest.mark.parametrize("name", TIES)
def test_gradcheck_of_pairs(name):
    logps = random_pairs(0, 12, tie=torch.tensor([0.0, 1.0] * 6))
    objective = make_objective(name)

    def function(chosen, rejected):
        return objective(replace(logps, policy_chosen=chosen, policy_rejected=rejected)).loss

    sums = [s.clone().requires_grad_() for s in (logps.policy_chosen, logps.policy_rejected)]
    assert torch.autograd.gradcheck(function, sums)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_sft_and_its_gradient(dtype):
    policy = torch.tensor([-1e4, -3.0, 0.0], dtype=dtype, requires_grad=True)
    length = torch.tensor([7, 3, 1])
    value = loss("sft", DemonstrationLogps(policy, torch.zeros_like(policy), length))
    value.sum().backward()
    torch.testing.assert_close(value, -policy.to(value.dtype) / length)
    torch.testing.assert_close(policy.grad, (-1 / length).to(dtype))


@pytest.mark.parametrize("name", [*TIES, *RANKED, *RATED])
def test_the_reference_has_no_gradient(name):
    logps = extremes(name, torch.float64)
    fields = ("reference_chosen", "reference_rejected") if name in TIES else ("reference",)
    tracked = {f: getattr(logps, f).clone().requires_grad_() for f in fields}
    out = make_objective(name)(replace(logps, **tracked))
    assert not out.loss.requires_grad and not out.chosen_reward.requires_grad


# Containers.


def test_mixed_up_shapes_are_refused_with_both_of_them():
    two, three, grid = torch.zeros(2), torch.zeros(3), torch.zeros(2, 3)
    yes = torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"rejected has shape \[3\] but .* has shape \[2\]"):
        PairLogps(two, three, two, two, two, two)
    with pytest.raises(ValueError, match=r"tie has shape \[3\] but policy_chosen .* \[2\]"):
        PairLogps(two, two, two, two, two, two, {"tie": three})
    with pytest.raises(ValueError, match=r"present has shape \[2, 4\] but policy .* \[2, 3\]"):
        RankedLogps(grid, grid, grid, grid, yes)
    with pytest.raises(ValueError, match=r"score has shape \[2\] but policy .* \[2, 3\]"):
        RankedLogps(grid, grid, grid, grid, grid > 0, {"score": two})
    with pytest.raises(ValueError, match=r"desirable has shape \[3\] but policy .* \[2\]"):
        RatedLogps(two, two, two, three > 0)
    with pytest.raises(ValueError, match=r"length has shape \[3\] but policy_chosen .* \[2\]"):
        DemonstrationLogps(two, two, three)
    with pytest.raises(ValueError, match=r"policy has shape \[2\]; .* shape \[B, K\]"):
        RankedLogps(two, two, two, two, two > 0)
    with pytest.raises(ValueError, match=r"policy has shape \[2, 3\]; .* shape \[B\]"):
        RatedLogps(grid, grid, grid, grid > 0)


def test_swapped_pairs():
    one = PairLogps(
        *map(f64, ([1.0], [2.0], [3.0], [4.0], [5.0], [6.0])),
        extras={"chosen_collision": f64([7.0]), "rejected_collision": f64([8.0]),
                "dispersion": f64([9.0])},
        state={"mean": 0.5},
    )  # fmt: skip
    other = one.swapped()
    assert other.delta.item() == -one.delta.item()
    assert (other.policy_margin.item(), other.reference_margin.item()) == (1.0, 1.0)
    assert (other.chosen_length.item(), other.rejected_length.item()) == (6.0, 5.0)
    assert {key: v.item() for key, v in other.extras.items()} == {
        "chosen_collision": 8.0,
        "rejected_collision": 7.0,
        "dispersion": 9.0,
    }
    assert other.state == one.state and other.swapped() == one


def test_what_containers_say_of_margins():
    ranks = ranking([[2.0, -3.0, 1.0, 50.0]], present=[[True, True, True, False]])
    # the best's 2 less the mean of -3 and 1
    assert ranks.delta.item() == ranks.policy_margin.item() == 3.0
    assert ranks.policy_chosen.tolist() == ranks.chosen_mean.tolist() == [2.0]
    assert ranks.log_ratio.tolist() == [[2.0, -3.0, 1.0, 0.0]]
    rated = ratings([2.0, -3.0], [True, False])
    shown = DemonstrationLogps(f64([-10.0]), f64([-12.0]), f64([4.0]))
    assert (shown.delta.item(), shown.policy_margin.item()) == (2.0, -10.0)
    assert rated.delta.tolist() == rated.policy_margin.tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("davidson", {"prevalence": -1}, "objective.prevalence: got -1; must be a number, 0 or"),
        ("rao_kupper", {"threshold": math.nan}, "objective.threshold: got nan"),
        ("exo_ranked", {"temperature": 0}, "objective.temperature: got 0; must be a number above"),
        ("kto", {"desirable_weight": 0}, "objective.desirable_weight: got 0"),
        ("sft", {"reduction": "max"}, "objective.reduction: got 'max'; allowed are mean, sum"),
        ("plackett_luce", {"temperature": 1}, "objective.temperature: plackett_luce has no such"),
    ],
)
def test_bad_settings_are_refused(name, hyper, message):
    with pytest.raises(ConfigError, match=message):
        make_objective(name, **hyper)
