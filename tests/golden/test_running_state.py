"""Objectives that remember: alpha-DPO, beta-DPO and BCO, their state, and weighted sums."""

import json
import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from fastslow.errors import ConfigError
from fastslow.objectives import PairLogps, RankedLogps, RatedLogps, make_objective, running

REMEMBERING = ("alpha_dpo", "beta_dpo", "bco")
# mean 1.5 / 0.5 = 3 and deviation 2 / 0.5 = 4
STATE = {"mean": 1.5, "deviation": 2.0, "weight": 0.5}


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def random_pairs(seed, rows=10, *, dtype=torch.float64, state=None):
    generator = np.random.default_rng(seed)
    sums = [torch.tensor(row, dtype=dtype) for row in generator.normal(-60, 9, (4, rows))]
    lengths = [torch.tensor(row) for row in generator.integers(1, 90, (2, rows))]
    extras = {"uniform": f64(generator.random(rows))}
    return PairLogps(*sums, *lengths, extras, state or {})


def random_ratings(seed, rows=10, *, state=None):
    generator = np.random.default_rng(seed)
    sums = [f64(row) for row in generator.normal(-60, 9, (2, rows))]
    liked = torch.tensor(generator.random(rows) < 0.5)
    mismatched = f64(generator.normal(1, 2, rows))
    extras = {"mismatched_log_ratio": mismatched}
    return RatedLogps(*sums, torch.ones(rows), liked, extras, state or {})


def inputs(name, seed, **kwargs):
    return (random_ratings if name == "bco" else random_pairs)(seed, **kwargs)


def deltas(values, *, uniform=None, state=None, dtype=torch.float64):
    """Pairs of one token each with these Delta under a reference of zeros."""
    chosen = torch.tensor(values, dtype=dtype)
    zero, one = torch.zeros_like(chosen), torch.ones_like(chosen)
    extras = {} if uniform is None else {"uniform": f64(uniform)}
    return PairLogps(chosen, zero, zero, zero, one, one, extras, state or {})


def after(objective, state, logps):
    """The state after a step over a batch."""
    sums = {key: value.item() for key, value in objective.observe(logps).items()}
    return objective.advance(state, sums, len(logps.delta))


def softplus(x):
    return math.log(1 + math.exp(x))


def log_sigmoid(x):
    return -np.logaddexp(0, -x)


# The running mean and deviation.


def test_moments_by_hand():
    # 1, 3 and 5 have the mean 3 and, over n - 1, the deviation 2
    sums = {key: v.item() for key, v in running.sums(f64([1.0, 3.0, 5.0])).items()}
    assert sums == {"sum": 9.0, "square": 35.0}
    once = running.advanced(running.fresh(), sums, 3, decay=0.75)
    assert once == {"mean": 0.75, "deviation": 0.5, "weight": 0.25}
    assert running.moments(once) == running.Moments(3.0, 2.0)
    # then 7 and 7: 0.75 * 0.75 + 0.25 * 7, 0.75 * 0.5 + 0, 0.75 * 0.25 + 0.25
    twice = running.advanced(once, {"sum": 14.0, "square": 98.0}, 2, decay=0.75)
    assert twice == {"mean": 2.3125, "deviation": 0.375, "weight": 0.4375}
    assert running.moments(running.fresh()) is None and running.moments({}) is None


def test_an_empty_state_is_a_fresh_one():
    sums = {"sum": 9.0, "square": 35.0}
    fresh = running.advanced(running.fresh(), sums, 3, decay=0.9)
    assert running.advanced({}, sums, 3, decay=0.9) == fresh
    bco = make_objective("bco")
    assert bco.advance({}, {"total": 4.0}, 2) == {"total": 4.0, "count": 2.0}


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_the_correction_is_exact_for_a_constant_statistic(decay):
    values = f64([-1.0, 2.0, 4.0, 9.0])
    sums = {key: v.item() for key, v in running.sums(values).items()}
    state = running.fresh()
    for step in range(1, 60):
        state = running.advanced(state, sums, 4, decay=decay)
        found = running.moments(state)
        assert state["weight"] == pytest.approx(1 - decay**step, rel=1e-9)
        assert found.mean == pytest.approx(3.5, rel=1e-9)
        assert found.deviation == pytest.approx(values.std().item(), rel=1e-9)


def test_one_value_and_equal_values_have_no_deviation():
    for values in ([5.0], [0.1] * 7):
        sums = {key: v.item() for key, v in running.sums(f64(values)).items()}
        state = running.advanced(running.fresh(), sums, len(values), decay=0.9)
        found = running.moments(state)
        assert found.mean == pytest.approx(values[0])
        assert found.deviation == pytest.approx(0, abs=1e-8)


def test_moments_against_numpy():
    generator = np.random.default_rng(0)
    state, mean, deviation, weight = running.fresh(), 0.0, 0.0, 0.0
    for _ in range(20):
        values = generator.normal(3, 50, generator.integers(2, 30))
        sums = {key: v.item() for key, v in running.sums(f64(values)).items()}
        state = running.advanced(state, sums, len(values), decay=0.8)
        mean = 0.8 * mean + 0.2 * values.mean()
        deviation = 0.8 * deviation + 0.2 * values.std(ddof=1)
        weight = 0.8 * weight + 0.2
    expected = (mean / weight, deviation / weight)
    found = running.moments(state)
    assert (found.mean, found.deviation) == pytest.approx(expected, rel=1e-10)


# What all that remember have in common.


@pytest.mark.parametrize("name", [*REMEMBERING, "alpha_dpo + 0.5 * beta_dpo"])
def test_state_is_floats_that_survive_a_file(name):
    objective = make_objective(name)
    state = objective.initial_state()
    for seed in range(3):
        state = after(objective, state, inputs(name, seed, state=state))
    assert state.keys() == objective.initial_state().keys()
    assert all(type(value) is float for value in state.values())
    assert json.loads(json.dumps(state)) == state


@pytest.mark.parametrize("name", [*REMEMBERING, "alpha_dpo + 0.5 * beta_dpo"])
def test_halves_that_are_observed_apart_advance_like_the_whole(name):
    objective = make_objective(name)
    before = after(objective, objective.initial_state(), inputs(name, 1))
    whole = inputs(name, 2, rows=10)
    size = len(objective(whole).loss)

    def part(rows):
        def cut(values):
            return {key: v[rows] for key, v in values.items()}

        fields = {
            f: getattr(whole, f)[rows]
            for f in whole.__dataclass_fields__
            if f not in ("extras", "state")
        }
        return replace(whole, **fields, extras=cut(whole.extras))

    halves = [objective.observe(part(rows)) for rows in (slice(0, 4), slice(4, None))]
    added = {key: (halves[0][key] + halves[1][key]).item() for key in halves[0]}
    at_once = {key: v.item() for key, v in objective.observe(whole).items()}
    apart = objective.advance(before, added, size)
    assert apart == pytest.approx(objective.advance(before, at_once, size), rel=1e-12)


@pytest.mark.parametrize("name", REMEMBERING)
def test_what_is_observed_are_scalars_without_gradient(name):
    logps = inputs(name, 0)
    field = "policy" if name == "bco" else "policy_chosen"
    tracked = replace(logps, **{field: getattr(logps, field).clone().requires_grad_()})
    for value in make_objective(name).observe(tracked).values():
        assert value.shape == () and value.dtype == torch.float64 and not value.requires_grad


@pytest.mark.parametrize("name", REMEMBERING)
def test_being_called_changes_nothing(name):
    objective = make_objective(name)
    state = after(objective, objective.initial_state(), inputs(name, 1))
    kept, logps = dict(state), inputs(name, 2, state=state)
    first = objective(logps)
    objective(inputs(name, 3, state=state))
    assert state == kept and torch.equal(objective(logps).loss, first.loss)
    objective.advance(state, {key: v.item() for key, v in objective.observe(logps).items()}, 10)
    assert state == kept
    with pytest.raises(FrozenInstanceError):
        objective.beta = 1.0


@pytest.mark.parametrize("name", ["dpo", "kto", "dpo + 0.2 * sft"])
def test_the_others_remember_nothing(name):
    objective = make_objective(name)
    logps = random_ratings(0) if name == "kto" else random_pairs(0)
    assert objective.initial_state() == {} and objective.observe(logps) == {}
    assert objective.advance({}, {}, 10) == {}


# alpha-DPO.


def test_alpha_dpo_by_hand():
    # m = -10 / 4 + 8 / 2 = 1.5; gap = 1.5 - (-12 / 4 + 5 / 2) = 2; z = (2 - 3) / 4 = -0.25
    sums = map(f64, ([-10.0], [-8.0], [-12.0], [-5.0], [4.0], [2.0]))
    logps = PairLogps(*sums, state=STATE)
    # 2.5 (1.5 - 0.6 - 0.2 * -0.25) = 2.375
    out = make_objective("alpha_dpo")(logps)
    assert out.loss.item() == pytest.approx(softplus(-2.375), abs=1e-6)
    assert (out.chosen_reward.item(), out.rejected_reward.item()) == (-6.25, -10.0)
    # the first step has no z: 2.5 * 0.9 = 2.25
    first = make_objective("alpha_dpo")(replace(logps, state={})).loss.item()
    assert first == pytest.approx(softplus(-2.25), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha", [-0.3, 0.2, 2.0])
def test_alpha_dpo_against_numpy(alpha, seed):
    logps = random_pairs(seed, state=STATE)
    sw, sl, rw, rl, nw, nl = (getattr(logps, f).numpy() for f in PairLogps.__slots__[:6])
    gap = (sw - rw) / nw - (sl - rl) / nl
    margin = 0.3 + alpha * np.clip((gap - 3) / 4, -5, 5)

    def reference(sw):
        return -log_sigmoid(1.5 * (sw / nw - sl / nl - margin))

    chosen = logps.policy_chosen.clone().requires_grad_()
    objective = make_objective("alpha_dpo", beta=1.5, gamma_beta_ratio=0.3, alpha=alpha)
    loss = objective(replace(logps, policy_chosen=chosen)).loss
    np.testing.assert_allclose(loss.detach(), reference(sw), rtol=1e-10, atol=1e-10)
    # The margin stays where it is: no gradient flows through it.
    loss.sum().backward()
    slopes = (reference(sw + 1e-4) - reference(sw - 1e-4)) / 2e-4
    np.testing.assert_allclose(chosen.grad, slopes, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("state", [{}, STATE])
def test_alpha_0_is_simpo_bit_for_bit(state, dtype):
    logps = random_pairs(0, dtype=dtype, state=state)
    hyper = {"beta": 2.3, "gamma_beta_ratio": 0.35}
    alpha, simpo = make_objective("alpha_dpo", alpha=0.0, **hyper), make_objective("simpo", **hyper)
    assert not alpha.needs_reference and make_objective("alpha_dpo").needs_reference
    assert_identical(alpha, simpo, logps)


def assert_identical(first, second, logps):
    found = []
    for objective in (first, second):
        sums = [s.clone().requires_grad_() for s in (logps.policy_chosen, logps.policy_rejected)]
        out = objective(replace(logps, policy_chosen=sums[0], policy_rejected=sums[1]))
        out.loss.mean().backward()
        rewards = [out.chosen_reward, out.rejected_reward]
        found.append([out.loss, *rewards, *(s.grad for s in sums)])
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


def test_alpha_dpo_asks_more_of_pairs_that_the_policy_already_separates():
    logps = deltas([10.0, -10.0], state=STATE)
    objective, plain = make_objective("alpha_dpo"), make_objective("alpha_dpo", alpha=0.0)
    easy, hard = (objective(logps).loss - plain(logps).loss).tolist()
    assert easy > 0 > hard


def test_alpha_dpo_from_a_policy_that_is_the_reference():
    objective = make_objective("alpha_dpo")
    same = deltas([0.0] * 8)
    state = after(objective, objective.initial_state(), same)
    assert running.moments(state) == running.Moments(0.0, 0.0)
    # No deviation is known yet, so the step after it is SimPO's too, not 1e6 times a gap.
    logps = random_pairs(0, state=state)
    assert torch.equal(objective(logps).loss, make_objective("alpha_dpo", alpha=0.0)(logps).loss)


def test_alpha_dpo_does_not_depend_on_the_rest_of_the_batch():
    logps, objective = random_pairs(0, state=STATE), make_objective("alpha_dpo")
    assert not objective.coupled
    alone = replace(
        logps, **{f: getattr(logps, f)[:3] for f in PairLogps.__slots__[:6]}, extras={}
    )  # fmt: skip
    assert torch.equal(objective(alone).loss, objective(logps).loss[:3])


# beta-DPO.


def test_beta_dpo_by_hand():
    # All are kept. The mean of Delta is 5, the running one 3: 0.1 (1 + 0.6 * 2) = 0.22.
    logps = deltas([4.0, 6.0], state=STATE)
    objective = make_objective("beta_dpo", filter=0.0)
    assert objective.needs == ()
    expected = [softplus(-0.88), softplus(-1.32)]
    assert objective(logps).loss.tolist() == pytest.approx(expected, abs=1e-6)
    # In the first step beta is the given one.
    expected = [softplus(-0.4), softplus(-0.6)]
    first = objective(replace(logps, state={})).loss.tolist()
    assert first == pytest.approx(expected, abs=1e-6)


def test_beta_dpo_leaves_out_by_hand():
    # Half of the batch is left out. Before the first step all weights are equal, and the largest
    # random numbers win: the pairs 4 and 8, each of which counts twice.
    logps = deltas([2.0, 4.0, 6.0, 8.0], uniform=[0.1, 0.7, 0.2, 0.6])
    loss = make_objective("beta_dpo", filter=0.5)(logps).loss.tolist()
    assert loss == pytest.approx([0, 2 * softplus(-0.4), 0, 2 * softplus(-0.8)], abs=1e-12)
    # With a running mean of 3, a deviation of 4 and equal random numbers those nearest to 3 are
    # kept: 2 and 4, whose mean is 3 too.
    logps = deltas([2.0, 4.0, 6.0, 8.0], uniform=[0.5] * 4, state=STATE)
    loss = make_objective("beta_dpo", filter=0.5)(logps).loss.tolist()
    assert loss == pytest.approx([2 * softplus(-0.2), 2 * softplus(-0.4), 0, 0], abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_beta_dpo_against_numpy(seed):
    logps = random_pairs(seed, state=STATE)
    sw, sl, rw, rl = (getattr(logps, f).numpy() for f in PairLogps.__slots__[:4])
    delta, uniform = (sw - rw) - (sl - rl), logps.extras["uniform"].numpy()
    chances = -0.5 * ((delta - 3) / 4) ** 2 - np.log(-np.log(uniform))
    kept = np.isin(np.arange(10), np.argsort(chances)[-7:])
    beta = max(0.05 * (1 + 0.1 * (delta[kept].mean() - 3)), 1e-3)

    def reference(sw):
        return -log_sigmoid(beta * ((sw - rw) - (sl - rl))) * kept * 10 / 7

    chosen = logps.policy_chosen.clone().requires_grad_()
    objective = make_objective("beta_dpo", beta=0.05, gain=0.1, filter=0.3)
    loss = objective(replace(logps, policy_chosen=chosen)).loss
    np.testing.assert_allclose(loss.detach(), reference(sw), rtol=1e-10, atol=1e-10)
    # beta is held: no gradient flows through it, nor into pairs that were left out.
    loss.sum().backward()
    slopes = (reference(sw + 1e-4) - reference(sw - 1e-4)) / 2e-4
    np.testing.assert_allclose(chosen.grad, slopes, rtol=1e-6, atol=1e-9)
    assert not chosen.grad[~torch.tensor(kept)].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("state", [{}, STATE])
def test_gain_0_and_filter_0_is_dpo_bit_for_bit(state, dtype):
    logps = random_pairs(0, dtype=dtype, state=state)
    assert_identical(make_objective("beta_dpo", gain=0, filter=0), make_objective("dpo"), logps)


@pytest.mark.parametrize(
    ("rows", "share", "kept"), [(10, 0.2, 8), (7, 0.5, 4), (4, 0.0, 4), (3, 0.9, 1), (1, 0.2, 1)]
)
def test_how_many_pairs_beta_dpo_keeps(rows, share, kept):
    objective = make_objective("beta_dpo", filter=share)
    logps = random_pairs(0, rows, state=STATE)
    loss = objective(logps).loss
    assert (loss > 0).sum() == kept
    assert torch.equal(objective(logps).loss, loss)


def test_the_mean_loss_of_beta_dpo_is_that_of_the_pairs_kept():
    logps = random_pairs(3, state=STATE)
    loss = make_objective("beta_dpo", gain=0.0)(logps).loss
    plain = make_objective("dpo")(logps).loss
    assert loss.mean().item() == pytest.approx(plain[loss > 0].mean().item(), rel=1e-12)


def test_beta_dpo_draws_without_replacement_by_its_weights():
    # z = 0, 1 and 2 have the weights 1, e^-0.5 and e^-2, and two of three are drawn.
    weights = np.exp([0.0, -0.5, -2.0])
    p = weights / weights.sum()
    # k is left out where the other two are drawn, in either order.
    others = [(1, 2), (0, 2), (0, 1)]
    out = [p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j]) for i, j in others]
    objective = make_objective("beta_dpo", filter=1 / 3)
    logps = deltas([3.0, 7.0, 11.0], state=STATE)
    draws = 4000
    skipped_examples = np.zeros(3)
    for uniform in np.random.default_rng(0).random((draws, 3)):
        loss = objective(replace(logps, extras={"uniform": torch.from_numpy(uniform)})).loss
        skipped_examples += (loss == 0).numpy()
    assert skipped_examples.sum() == draws
    # four standard errors
    np.testing.assert_allclose(skipped_examples / draws, out, atol=4 * 0.5 / math.sqrt(draws))


def test_beta_dpo_keeps_beta_above_0():
    # 0.1 (1 + 0.6 (-97 - 3)) is below 0, so beta is 1e-3.
    logps = deltas([-96.0, -98.0], state=STATE)
    loss = make_objective("beta_dpo", filter=0.0)(logps).loss
    torch.testing.assert_close(loss, make_objective("dpo", beta=1e-3)(logps).loss)


def test_random_numbers_at_the_ends_are_no_trouble():
    logps = deltas([1.0, 2.0, 3.0, 4.0, 5.0], uniform=[0.0, 1.0, 0.0, 1.0, 0.5], state=STATE)
    loss = make_objective("beta_dpo", filter=0.4)(logps).loss
    assert loss.isfinite().all() and (loss > 0).tolist() == [False, True, False, True, True]
    with pytest.raises(ValueError, match="extras.'uniform'"):
        make_objective("beta_dpo")(replace(logps, extras={}))


@pytest.mark.parametrize("state", [{}, STATE])
def test_the_opposite_label_of_a_pair_is_judged_in_the_batch_as_it_is_labelled(state):
    # Beta, and which pairs are kept, are those of the labels given.
    logps = random_pairs(5, state=state)
    objective = make_objective("beta_dpo", gain=0.02)
    given, kept = objective(logps).loss, objective(logps).loss > 0
    opposite = objective.opposite_loss(logps)
    assert torch.equal(opposite > 0, kept)
    # -logsigmoid(-x) = x - logsigmoid(x): both losses tell the same b Delta.
    b_delta = (opposite - given)[kept] * 0.8
    beta = b_delta / logps.delta[kept]
    torch.testing.assert_close(beta, beta[0].expand_as(beta))
    surplus = logps.delta[kept].mean().item() - 3 if state else 0.0
    assert beta[0].item() == pytest.approx(max(0.1 * (1 + 0.02 * surplus), 1e-3))


def test_the_opposite_label_in_a_sum_is_that_of_each_term():
    logps = random_pairs(5)
    parts = {name: make_objective(name) for name in ("beta_dpo", "dpo", "sft")}
    found = make_objective("dpo + 0.5 * beta_dpo + 2 * sft").opposite_loss(logps)
    one, half, two = (parts[name].opposite_loss(logps) for name in ("dpo", "beta_dpo", "sft"))
    torch.testing.assert_close(found, one + 0.5 * half + 2 * two)
    assert torch.equal(two, -logps.rejected_mean)


def test_which_depend_on_their_batch():
    for name, coupled in (("beta_dpo", True), ("kto", False), ("bco", False), ("dpo", False)):
        assert make_objective(name).coupled is coupled
    assert make_objective("dpo + 0.1 * beta_dpo").coupled
    assert not make_objective("dpo + 0.1 * sft").coupled


# BCO.


def test_the_shift_of_bco_is_the_mean_over_all_steps():
    objective = make_objective("bco", beta=0.3)
    state, seen = objective.initial_state(), []
    for seed in range(4):
        logps = random_ratings(seed, rows=5 + seed, state=state)
        # The step's own responses are not part of it.
        shift = 0.3 * np.concatenate(seen).mean() if seen else 0.0
        h = (logps.policy - logps.reference).numpy()
        u = np.where(logps.desirable, 1.0, -1.0) * (0.3 * h - shift)
        np.testing.assert_allclose(objective(logps).loss, -log_sigmoid(u), rtol=1e-10)
        seen.append(h)
        state = after(objective, state, logps)
    assert state["count"] == 5 + 6 + 7 + 8


# Far out, and derivatives.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("state", [{}, STATE, {"mean": 0.0, "deviation": 0.0, "weight": 0.1}])
@pytest.mark.parametrize("name", ["alpha_dpo", "beta_dpo"])
def test_values_and_gradients_are_finite_far_out(name, state, dtype):
    logps = deltas([1e4, -1e4, 0.0, 1.0, 1e4], uniform=[0.1, 0.9, 0.5, 0.5, 0.2], dtype=dtype)
    chosen = logps.policy_chosen.clone().requires_grad_()
    out = make_objective(name)(replace(logps, policy_chosen=chosen, state=state))
    out.loss.sum().backward()
    assert out.loss.dtype == torch.float32 and chosen.grad.dtype == dtype
    assert out.loss.isfinite().all() and chosen.grad.isfinite().all()


def test_gradcheck():
    # alpha-DPO's margin and beta-DPO's beta are held, so only where they stay constant is the
    # gradient that of the value.
    for objective in (
        make_objective("alpha_dpo", alpha=0.0),
        make_objective("beta_dpo", gain=0.0),
        make_objective("dpo + 0.3 * sft"),
    ):
        logps = random_pairs(0, state=STATE)
        sums = [s.clone().requires_grad_() for s in (logps.policy_chosen, logps.policy_rejected)]

        def function(chosen, rejected, objective=objective, logps=logps):
            return objective(replace(logps, policy_chosen=chosen, policy_rejected=rejected)).loss

        assert torch.autograd.gradcheck(function, sums)


# Weighted sums.


def test_weighted_sums_by_hand():
    # u = 0.1 * 5 and -s_w / n_w = 10 / 4
    logps = PairLogps(*map(f64, ([-10.0], [-8.0], [-12.0], [-5.0], [4.0], [2.0])))
    dpo = softplus(-0.5)
    for objective, expected in (
        (make_objective("dpo + 0.2 * sft"), dpo + 0.5),
        (make_objective("dpo", nll_weight=0.5), dpo + 1.25),
        (make_objective("0.5 * dpo + 2*sft", nll_weight=0.1), 0.5 * dpo + 5.25),
        (make_objective("dpo + 1e-1*sft", reduction="sum"), dpo + 1.0),
        (make_objective("2 * dpo"), 2 * dpo),
    ):
        assert objective(logps).loss.item() == pytest.approx(expected, abs=1e-12)


def test_a_ranking_with_an_anchor():
    policy, zero = f64([[-4.0, -4.0, -4.0]]), f64([[0.0] * 3])
    order = torch.tensor([[0, 1, 2]])
    logps = RankedLogps(policy, zero, zero + 2, order, order >= 0)
    # 3! orders, and 4 nats over 2 tokens
    loss = make_objective("plackett_luce", nll_weight=0.5)(logps).loss.item()
    assert loss == pytest.approx(math.log(6) + 0.5 * 2, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_weights_of_0_add_nothing_bit_for_bit(dtype):
    logps, plain = random_pairs(0, dtype=dtype), make_objective("dpo")
    assert_identical(make_objective("dpo + 0 * sft"), plain, logps)
    assert_identical(make_objective("dpo + 0.0 * ipo + 0 * sft"), plain, logps)
    assert make_objective("dpo", nll_weight=0.0) == plain == make_objective("1.0 * dpo")


def test_a_weighted_sum_is_the_sum_of_its_parts():
    logps = random_pairs(1)
    total = make_objective("0.3 * dpo + ipo + 1.5 * hinge", beta=0.2)(logps)
    parts = [make_objective(name, beta=0.2)(logps) for name in ("dpo", "ipo", "hinge")]
    expected = 0.3 * parts[0].loss + parts[1].loss + 1.5 * parts[2].loss
    torch.testing.assert_close(total.loss, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(total.chosen_reward, parts[0].chosen_reward)
    assert torch.equal(total.rejected_reward, parts[0].rejected_reward)


def test_settings_go_to_every_term_that_has_them():
    both = make_objective("dpo + 0.2 * simpo", beta=0.7, gamma_beta_ratio=0.1)
    dpo, simpo = (objective for _, objective in both.terms)
    assert dpo == make_objective("dpo", beta=0.7)
    assert simpo == make_objective("simpo", beta=0.7, gamma_beta_ratio=0.1)
    assert both.beta == 0.7


def test_a_sum_needs_what_its_terms_need():
    total = make_objective("sft + davidson", reduction="sum")
    assert total.needs_reference and not total.needs_lengths and total.needs == ()
    assert not total.learns_ties and make_objective("davidson + 2 * rao_kupper").learns_ties
    assert make_objective("dpo", nll_weight=0.1).needs_lengths
    assert make_objective("beta_dpo + 2 * beta_dpo + sft").needs == ("uniform",)
    for name, takes in (
        ("sft + dpo", "pairs"),
        ("plackett_luce + 0.1 * sft", "rankings"),
        ("sft + 2 * sft", "demonstrations"),
        ("bco + kto", "ratings"),
    ):
        assert make_objective(name).takes == takes
    assert make_objective("bco + kto").needs == ("mismatched_log_ratio",)


def test_each_term_of_a_sum_has_a_state_of_its_own():
    objective = make_objective("alpha_dpo + 0.5 * beta_dpo + 2 * alpha_dpo", decay=0.8)
    terms = [term for _, term in objective.terms]
    state, states = objective.initial_state(), [term.initial_state() for term in terms]
    for seed in range(3):
        logps = random_pairs(seed)
        parts = [t(replace(logps, state=s)) for t, s in zip(terms, states, strict=True)]
        expected = parts[0].loss + 0.5 * parts[1].loss + 2 * parts[2].loss
        total = objective(replace(logps, state=state)).loss
        torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-12)
        state = after(objective, state, logps)
        states = [after(t, s, logps) for t, s in zip(terms, states, strict=True)]
    whole = {f"{i}.{key}": value for i, part in enumerate(states) for key, value in part.items()}
    assert state == whole


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("dpo +", {}, "objective.name: 'dpo [+]' is neither a name nor a sum like 'dpo [+]"),
        ("2 dpo", {}, "objective.name: '2 dpo' is neither a name nor a sum"),
        ("", {}, "objective.name: '' is neither a name"),
        ("dpo + -1 * sft", {}, "neither a name nor a sum"),
        ("dpoo + sft", {}, "objective.name: got 'dpoo'; did you mean 'dpo'"),
        ("dpo + kto", {}, "must take the same labels; these take pairs and ratings"),
        ("sdpo + bco", {}, "these take rankings and ratings"),
        ("kto + 0.1 * sft", {}, "these take demonstrations and ratings"),
        ("bco", {"nll_weight": 0.1}, "bco takes ratings"),
        ("dpo + sdpo + sft", {}, "these take demonstrations and pairs and rankings"),
        ("dpo + sft", {"reductoin": "sum"}, "objective.reductoin: dpo [+] sft has no such setting; "
         "did you mean 'reduction'"),
        ("dpo + sft", {"gamma_beta_ratio": 1}, "has no such setting; allowed are beta, label_smo"),
        ("dpo", {"nll_weight": -1}, "objective.nll_weight: got -1; must be a number, 0 or above"),
        ("dpo", {"nll_weight": "much"}, "objective.nll_weight: got 'much'"),
        ("beta_dpo", {"filter": 1.0}, "objective.filter: got 1.0; must be a number from 0.0 up to"),
        ("alpha_dpo", {"decay": 1}, "objective.decay: got 1"),
    ],
)  # fmt: skip
def test_bad_requests_are_refused(name, hyper, message):
    with pytest.raises(ConfigError, match=message):
        make_objective(name, **hyper)
