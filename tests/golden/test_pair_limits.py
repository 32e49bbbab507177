"""Pairwise objectives one at a time: limits, symmetries, slopes, and settings out of range."""

import math
from itertools import permutations

import pytest
import torch
from one_pair import LN2, loss, loss_and_slopes, pair, random_pairs, sigmoid, slopes, softplus

from fastslow.errors import ConfigError
from fastslow.objectives import make_objective


def test_aipo():
    logps = random_pairs(3, torch.float64)
    # alpha = -1 takes the reference out
    free = make_objective("reference_free")(logps).loss
    torch.testing.assert_close(make_objective("aipo", alpha=-1, nll=0)(logps).loss, free)
    # where policy is reference: -logsigmoid(-alpha beta m_ref), m_ref = -7
    same = pair(0.0, 0.0)
    assert loss("aipo", same, alpha=0.5, nll=0) == pytest.approx(softplus(-0.35))
    # a reference without a preference: alpha does not matter
    even = pair(r_w=-6.0, r_l=-6.0)
    assert loss("aipo", even, alpha=3) == loss("aipo", even, alpha=0)
    # the anchor adds -nll / n_w = -0.05 to dL/ds_w alone
    with_it, without = slopes("aipo", pair(), nll=0.2), slopes("aipo", pair(), nll=0)
    assert with_it[0] - without[0] == pytest.approx(-0.05) and with_it[1] == without[1]


def test_anchored():
    # zero raises the chosen and lowers the rejected response, down lowers both
    chosen, rejected = slopes("anchored_zero", pair(0.0, 0.0))
    assert (chosen, rejected) == pytest.approx((-0.025, 0.025))
    # d sigmoid(u) = 0.1 / 4: chosen +0.025 - 0.025, so it first stands still
    chosen, rejected = slopes("anchored_down", pair(0.0, 0.0))
    assert (chosen, rejected) == pytest.approx((0, 0.025))
    # once told apart the chosen one sinks: 0.1 [s(0) s(-0) - s(2) s(-2)], at Delta = 20
    chosen, rejected = slopes("anchored_down", pair(0.0, -20.0))
    assert chosen == pytest.approx(0.1 * (0.25 - sigmoid(2) * sigmoid(-2))) and chosen > 0
    # each response of zero on its own
    assert slopes("anchored_zero", pair(1.0, -3.0))[0] == slopes("anchored_zero", pair(1.0, 3.0))[0]


def test_chi_po():
    # phi'(0) = 2: the first step is twice DPO's
    assert slopes("chi_po", pair(0.0, 0.0)) == pytest.approx((-0.1, 0.1))
    assert slopes("dpo", pair(0.0, 0.0)) == pytest.approx((-0.05, 0.05))
    # phi(3) - phi(0) = 23.09 - 1, so u = 2.2; for phi(5) - phi(0) = 152 it is beyond 4
    assert slopes("chi_po", pair(3.0, 0.0))[0] < 0
    assert slopes("chi_po", pair(5.0, 0.0)) == (0, 0)
    assert slopes("chi_po", pair(0.0, 5.0)) == (0, 0)
    # the least and the greatest loss: softplus(-+ 2 max_reward)
    for bound, least, most in [(2, 0.01815, 4.01815), (1, 0.12693, 2.12693)]:
        assert loss("chi_po", pair(9.0, 0.0), max_reward=bound) == pytest.approx(least, abs=1e-5)
        assert loss("chi_po", pair(0.0, 9.0), max_reward=bound) == pytest.approx(most, abs=1e-5)
    # far below the reference the exponential is gone: DPO
    low = pair(-40.0, -43.0)
    assert loss("chi_po", low) == pytest.approx(loss("dpo", low), abs=1e-12)
    # above the cap, 20, the exponential stays where it is
    assert slopes("chi_po", pair(21.0, 21.0), max_reward=None) == pytest.approx((-0.05, 0.05))


def test_cpo_orpo_mpo_and_simpo_do_not_look_at_the_reference():
    for name in ("cpo", "orpo", "mpo", "simpo"):
        moved = pair(-31.0, 11.0, r_w=21.0, r_l=-19.0)  # the same s
        assert loss(name, moved) == loss(name, pair())


def test_cpo():
    # dL/ds_w = -beta sigmoid(-u) - nll / n_w, u = -0.2
    chosen, rejected = slopes("cpo", pair(), nll=0.4)
    assert chosen == pytest.approx(-0.1 * sigmoid(0.2) - 0.1) and rejected == pytest.approx(
        0.1 * sigmoid(0.2)
    )


def test_discopop():
    # at u = 0: g = 1/2, g' = 1 / (4 tau) = 5; dL/du = 5 (1 - ln 2) - 1/4 - 1/2
    slope = 0.05 * (5 * (1 - LN2) - 0.75)
    assert slopes("discopop", pair(0.0, 0.0), tau=0.05) == pytest.approx((slope, -slope))
    # at the default of 0.2 g' = 1.25, and the slope points the right way
    slope = 0.05 * (1.25 * (1 - LN2) - 0.75)
    assert slope < 0 and slopes("discopop", pair(0.0, 0.0)) == pytest.approx((slope, -slope))
    # far from there one of its parts is left: DPO below, the exponential above
    low, high = pair(-20.0, 20.0), pair(20.0, -20.0)  # u = -+2
    assert loss("discopop", low, tau=0.05) == pytest.approx(loss("dpo", low, beta=0.05), abs=1e-12)
    assert loss("discopop", high, tau=0.05) == pytest.approx(math.exp(-2), abs=1e-12)


def test_divergences():
    logps = random_pairs(4, torch.float64)
    plain = loss_and_slopes(logps, "dpo", {})
    # between reverse KL (alpha -> 0) ...
    near = loss_and_slopes(logps, "dpo", {"divergence": "alpha", "divergence_alpha": 1e-9})
    for mine, theirs in zip(near, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)
    # ... and forward KL (alpha = 1)
    whole = loss_and_slopes(logps, "dpo", {"divergence": "alpha", "divergence_alpha": 1.0})
    forward = loss_and_slopes(logps, "dpo", {"divergence": "forward_kl"})
    for mine, theirs in zip(whole, forward, strict=True):
        torch.testing.assert_close(mine, theirs)
    # Slope at the start: f''(1) = 1 for both KLs and alpha, 1/2 for Jensen-Shannon.
    for divergence, bend in [("forward_kl", 1), ("alpha", 1), ("js", 0.5)]:
        chosen, rejected = slopes("dpo", pair(0.0, 0.0), divergence=divergence)
        assert (chosen, rejected) == pytest.approx((-0.05 * bend, 0.05 * bend))
    # Jensen-Shannon is reverse KL for small ratios; large ones do not count.
    deep = pair(-50.0, -55.0)
    assert loss("dpo", deep, divergence="js") == pytest.approx(loss("dpo", deep))
    assert loss("dpo", pair(90.0, 50.0), divergence="js") == pytest.approx(LN2)
    # Beyond the cap, 30, a response has no slope.
    assert slopes("dpo", pair(-31.0, -31.0), divergence="forward_kl") == (0, 0)


def test_dpop():
    # Delta = 1 either way, but a chosen response that sank by 1 is 50 short
    assert loss("dpop", pair(-1.0, -2.0)) == pytest.approx(softplus(-0.3 * (1 - 50)))
    # and is pushed 51 times as hard
    chosen, rejected = slopes("dpop", pair(-1.0, -2.0))
    assert chosen == pytest.approx(-51 * rejected)


def test_exo():
    # Least, 0, at u* = log((1 - e) / e), with slope sigmoid(u) sigmoid(-u) (u - u*)
    for e, top in [(1e-3, math.log(999)), (0.2, math.log(4))]:
        rest = pair(top, 0.0)
        assert loss("exo", rest, beta=1.0, label_smoothing=e) == pytest.approx(0, abs=1e-12)
        for u in (-10.0, -5.0, -2.0, 0.0, top, 9.0):
            chosen, rejected = slopes("exo", pair(u, 0.0), beta=1.0, label_smoothing=e)
            expected = sigmoid(u) * sigmoid(-u) * (u - top)
            assert (chosen, rejected) == pytest.approx((expected, -expected), rel=1e-9, abs=1e-12)
    # the numbers for e = 1e-3: badly wrong pairs are given up
    for u, slope in [(-10.0, -8e-4), (-5.0, -0.08), (-2.0, -0.94), (0.0, -1.73)]:
        assert slopes("exo", pair(u, 0.0), beta=1.0)[0] == pytest.approx(slope, rel=0.05)


def test_exo_is_the_reverse_divergence_of_two_distributions():
    logps = random_pairs(5, torch.float64)
    policy = torch.stack([logps.chosen_log_ratio, logps.rejected_log_ratio]).mul(0.1).softmax(0)
    people = torch.tensor([[0.9], [0.1]], dtype=torch.float64)
    expected = (policy * (policy / people).log()).sum(0)
    mine = make_objective("exo", label_smoothing=0.1)(logps).loss
    torch.testing.assert_close(mine, expected)
    assert mine.min() >= 0


def test_length_normalised_dpo():
    # at equal lengths DPO with beta / n; it takes the reference, unlike SimPO
    even = pair(lengths=(8, 8))
    assert loss("length_normalised_dpo", even) == pytest.approx(loss("dpo", even, beta=5 / 8))
    assert loss("length_normalised_dpo", even) != loss("simpo", even, beta=5, gamma_beta_ratio=0)


ONE = math.exp(-1 / 0.29)
"""The dispersion whose factor, -0.29 log E, is 1."""


def test_mallows():
    # factor 1 is DPO
    same = pair(dispersion=ONE)
    assert ONE == pytest.approx(0.0318, abs=1e-4)
    assert loss("mallows", same) == pytest.approx(loss("dpo", same), abs=1e-6)
    assert slopes("mallows", same) == pytest.approx(slopes("dpo", same), abs=1e-6)
    # the paper's factor, -2 log phi, of phi = e^(-1/2)
    phi = pair(dispersion=math.exp(-0.5))
    assert loss("mallows", phi, scale=2) == pytest.approx(loss("dpo", phi), abs=1e-12)
    # people at random: nothing to learn; the dispersion stops just below 1
    flat = pair(dispersion=1.0)
    assert loss("mallows", flat) == pytest.approx(LN2, abs=1e-6)
    assert slopes("mallows", flat) == pytest.approx((0, 0), abs=1e-7)


def kendall(phi, k, items=6):
    """How often item 0 stands before item k in Mallows' model around the order 0, 1, 2, ..."""
    before = total = 0.0
    for order in permutations(range(items)):
        crossed = sum(a > b for i, a in enumerate(order) for b in order[i + 1 :])
        total += phi**crossed
        before += phi**crossed * (order.index(0) < order.index(k))
    return before / total


@pytest.mark.parametrize("phi", [0.3, 0.6, 0.9])
def test_mallows_phi(phi):
    def won(k):
        logps = pair(k, 0.0, dispersion=phi**2)
        return math.exp(-loss("mallows_phi", logps, beta=1.0, scale=1.0))

    for k in (1, 2, 3):
        assert won(k) == pytest.approx(kendall(phi, k), rel=1e-9)
        assert won(k) + won(-k) == pytest.approx(1)
    assert won(1) == pytest.approx(1 / (1 + phi))
    # it jumps at 0, which counts as just above
    start = 1 / (1 - phi) + 1 / math.log(phi)
    assert start == pytest.approx({0.3: 0.598, 0.6: 0.542, 0.9: 0.509}[phi], abs=5e-4)
    assert won(0.0) == pytest.approx(start) and won(1e-9) == pytest.approx(start)
    assert won(-1e-9) == pytest.approx(1 - start)


def test_mallows_phi_between_agreement_and_chance():
    for dispersion, won in [(1.0, 0.5), (1e-6, 1.0)]:
        logps = pair(3.0, 0.0, dispersion=dispersion)
        value = loss("mallows_phi", logps, beta=1.0, scale=2.0)
        assert math.exp(-value) == pytest.approx(won, abs=1e-5)
    chosen, rejected = slopes("mallows_phi", pair(0.0, 0.0, dispersion=0.3))
    assert chosen < 0 < rejected and chosen == -rejected


def test_minor_dpo():
    # h_l < 0: only the chosen response is pushed, as if the rejected one stood at its reference
    chosen, rejected = slopes("minor_dpo", pair(2.0, -3.0))
    assert chosen == pytest.approx(-0.1 * sigmoid(-0.2)) and rejected == 0
    assert loss("minor_dpo", pair(2.0, -3.0)) == loss("dpo", pair(2.0, 0.0))
    # at h_l = 0, where every run begins, the step is DPO's
    assert slopes("minor_dpo", pair(0.0, 0.0)) == slopes("dpo", pair(0.0, 0.0)) == (-0.05, 0.05)
    # without a jump of the loss there, and never below DPO
    assert loss("minor_dpo", pair(2.0, -1e-9)) == pytest.approx(loss("minor_dpo", pair(2.0, 0.0)))
    logps = random_pairs(6, torch.float64)
    plain, minor = make_objective("dpo")(logps).loss, make_objective("minor_dpo")(logps).loss
    assert (minor >= plain).all()
    assert torch.equal(minor == plain, logps.rejected_log_ratio >= 0)


def test_mpo():
    # -1/2 with the steepest slope, 1/4, at 0; slopes are even in u
    even = pair(r_w=-10.0, r_l=-5.0)  # s = (-8, -8)
    assert loss("mpo", even) == -0.5 and slopes("mpo", even, beta=1.0) == (-0.25, 0.25)
    for u in (-5.0, 5.0):
        chosen, rejected = slopes("mpo", pair(0.0, 0.0, r_w=-8.0 + u, r_l=-8.0), beta=1.0)
        assert chosen == pytest.approx(-0.0066, abs=5e-5) and rejected == -chosen


def test_nca_rests_at_a_finite_reward():
    # d/dh_w: -sigmoid(-b h) + sigmoid(b h) / 2 = 0 at sigmoid = 2/3; each response on its own
    chosen, rejected = slopes("nca", pair(LN2, 0.0), beta=1.0)
    assert chosen == pytest.approx(0, abs=1e-12) and rejected == pytest.approx(0.25)
    assert slopes("nca", pair(1.0, 2.0))[0] == slopes("nca", pair(1.0, -2.0))[0]


def test_odpo():
    # where policy is reference: softplus(offset)
    for gap, value in [(math.e, 1.3133), (1 / math.e, 0.3133)]:
        same = pair(0.0, 0.0, score_gap=gap)
        assert loss("odpo", same, floor=0.01) == pytest.approx(value, abs=5e-5)
    # slope -sigmoid(offset - u): wider gaps, harder pushes
    chosen, rejected = slopes("odpo", pair(score_gap=4.0))
    assert chosen == pytest.approx(-0.1 * sigmoid(math.log(4) - 0.5)) and rejected == -chosen
    # scores on another scale move every offset by alpha log c
    wider = loss("odpo", pair(score_gap=6.0), alpha=0.5)
    assert wider == pytest.approx(softplus(0.5 * math.log(2) + 0.5 * math.log(3) - 0.5))
    # ties and pairs in the wrong order count as the floor
    for gap in (0.0, -2.0):
        logps = pair(score_gap=gap)
        assert loss("odpo", logps) == loss("dpo", logps)
        assert loss("odpo", logps, floor=0.5) == pytest.approx(softplus(math.log(0.5) - 0.5))


def test_orpo():
    # equal means: their odds are equal too
    even = pair(0.0, 0.0, r_w=-8.0, r_l=-4.0)
    assert loss("orpo", even) == pytest.approx(2 + 0.1 * LN2)
    # a response of probability 1 has finite odds and no slope through them
    sure = pair(0.0, 0.0, r_w=0.0, r_l=-4.0)
    assert loss("orpo", sure) == pytest.approx(0, abs=1e-6)
    assert slopes("orpo", sure)[0] == -0.25


def test_r_dpo():
    same = pair(0.0, 0.0, lengths=(30, 10))
    assert loss("r_dpo", same, alpha=0.1) == pytest.approx(softplus(-2))
    # a longer winner is pushed less
    assert slopes("r_dpo", same)[0] > slopes("r_dpo", pair(0.0, 0.0, lengths=(10, 30)))[0]
    assert loss("r_dpo", pair(lengths=(3, 3)), alpha=9) == loss("dpo", pair())


def test_rpo():
    # where policy is reference: ln 2 - eta beta s_w
    same = pair(0.0, 0.0)
    assert loss("rpo", same, beta=0.1, eta=0.5) == pytest.approx(LN2 + 0.5 * 0.1 * 12)
    # the chosen response's push never vanishes: -beta (sigmoid(-u) + eta)
    chosen, rejected = slopes("rpo", pair(), beta=0.1, eta=0.5)
    assert chosen == pytest.approx(-0.1 * (sigmoid(-0.5) + 0.5))
    assert rejected == pytest.approx(0.1 * sigmoid(-0.5))
    # the sum is the mean with eta beta n_w, n_w = 4
    mean = loss("rpo", pair(), eta=0.005 * 0.05 * 4, anchor="mean")
    assert mean == pytest.approx(loss("rpo", pair()))


def test_simpo():
    # equal means: softplus(gamma), gamma = 2 * 0.25
    even = pair(0.0, 0.0, r_w=-8.0, r_l=-4.0)
    assert loss("simpo", even) == pytest.approx(0.9741, abs=5e-5)
    assert loss("simpo", even, gamma_beta_ratio=0) == pytest.approx(LN2)
    # one more token at the response's mean, -2.5, changes nothing
    longer = pair(r_w=-14.5, lengths=(5, 2))
    assert loss("simpo", longer) == pytest.approx(loss("simpo", pair()))


def test_sppo():
    # least, 0, at the targets; slopes are the distances from them, each on its own
    assert loss("sppo", pair(5.0, -5.0), beta=0.1) == 0
    assert slopes("sppo", pair(2.0, -3.0), beta=0.1) == pytest.approx((-3, 2))
    assert slopes("sppo", pair(2.0, 9.0), beta=0.1)[0] == pytest.approx(-3)
    assert loss("sppo", pair(0.0, 0.0)) == pytest.approx(2.5e5)
    # responses that win as often as they lose stay
    even = pair(0.0, 0.0, chosen_win_rate=0.5, rejected_win_rate=0.5)
    assert loss("sppo", even, targets="probabilities") == 0
    # certain wins and losses are the hard targets
    certain = pair(chosen_win_rate=1.0, rejected_win_rate=0.0)
    assert loss("sppo", certain, targets="probabilities") == pytest.approx(loss("sppo", certain))


def test_wpo():
    # responses like the policy's own samples weigh 1
    own = pair(chosen_collision=-2.5, rejected_collision=-4.0)
    assert loss("wpo", own) == loss("dpo", own, beta=0.01)
    # the weight, e^-1, only scales DPO's slope: none goes through it
    stale = pair(chosen_collision=-2.0, rejected_collision=-3.5)
    chosen, rejected = slopes("wpo", stale)
    assert chosen == pytest.approx(-0.01 * sigmoid(-0.05) / math.e) and rejected == -chosen


EXTRAS = {
    "mallows": ["dispersion"],
    "mallows_phi": ["dispersion"],
    "odpo": ["score_gap"],
    "sppo": ["chosen_win_rate", "rejected_win_rate"],
    "wpo": ["chosen_collision", "rejected_collision"],
}


@pytest.mark.parametrize("name", EXTRAS)
def test_extras_are_needed_and_named_and_get_no_gradient(name):
    objective = make_objective(name, **({"targets": "probabilities"} if name == "sppo" else {}))
    assert list(objective.needs) == EXTRAS[name]
    for missing in EXTRAS[name]:
        there = {key: 0.5 for key in EXTRAS[name] if key != missing}
        with pytest.raises(ValueError, match=rf"needs extras\['{missing}'\]"):
            objective(pair(**there))
    logps = pair(**dict.fromkeys(EXTRAS[name], 0.5))
    fixed = [*logps.extras.values(), logps.reference_chosen, logps.reference_rejected]
    for tensor in (logps.policy_chosen, *fixed):
        tensor.requires_grad_()
    objective(logps).loss.sum().backward()
    assert logps.policy_chosen.grad is not None
    assert all(tensor.grad is None for tensor in fixed)


def test_others_need_no_extras():
    for name in "aipo chi_po cpo dpop exo minor_dpo mpo nca orpo r_dpo rpo simpo sppo".split():
        assert make_objective(name).needs == ()


NAMES = """aipo anchored_down anchored_zero chi_po cpo discopop dpo dpop exo length_normalised_dpo
mallows mallows_phi minor_dpo mpo nca odpo orpo r_dpo rpo simpo sppo wpo""".split()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("beta", [0, -1.0, math.inf, math.nan, "big", True, None])
def test_beta_is_a_number_above_0(name, beta):
    with pytest.raises(ConfigError, match=r"objective\.beta: got .* must be a number above 0"):
        make_objective(name, beta=beta)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("aipo", "alpha", math.nan),
        ("aipo", "nll", -0.1),
        ("chi_po", "chi", -1),
        ("chi_po", "max_reward", 0),
        ("cpo", "nll", math.inf),
        ("discopop", "tau", 0),
        ("discopop", "tau", 1),
        ("dpo", "divergence", "kl"),
        ("dpo", "divergence_alpha", 0),
        ("dpop", "penalty", -1),
        ("exo", "label_smoothing", 0),
        ("exo", "label_smoothing", 0.5),
        ("mallows", "scale", 0),
        ("mallows_phi", "scale", -1),
        ("odpo", "alpha", -1),
        ("odpo", "floor", 0),
        ("r_dpo", "alpha", "long"),
        ("rpo", "anchor", "max"),
        ("rpo", "eta", -1),
        ("simpo", "gamma_beta_ratio", -1),
        ("simpo", "label_smoothing", 0.5),
        ("sppo", "targets", "soft"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, setting, value):
    with pytest.raises(ConfigError, match=rf"^objective\.{setting}: got "):
        make_objective(name, **{setting: value})
