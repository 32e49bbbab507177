"""Pairwise objectives: values by hand, and what they become where two formulas meet."""

import math

import pytest
import torch
from one_pair import LN2, loss, loss_and_slopes, pair, random_pairs, sigmoid, softplus

from fastslow.objectives import PairLogps, make_objective


def entropy(*, factor, scale=0.29):
    """The dispersion at which Mallows multiplies by `factor`: -scale log E = factor."""
    return math.exp(-factor / scale)


@pytest.mark.parametrize(
    ("name", "hyper", "logps", "expected"),
    [
        # u = 0.1 (5 + 0.1 * 7) = 0.57; softplus(-0.57) + 0.1 * 2.5 = 0.448222 + 0.25
        ("aipo", {}, pair(), 0.698221511221),
        # sigmoid(0.2) + 1 - sigmoid(0.5) = 0.549834 + 0.377541
        ("anchored_down", {}, pair(), 0.927374666111),
        # 1 - sigmoid(0.2) + sigmoid(-0.3) = 0.450166 + 0.425557
        ("anchored_zero", {}, pair(), 0.875723485876),
        # phi_w = e^2 + 2 = 9.389056, phi_l = e^-3 - 3 = -2.950213, u = 1.233927
        ("chi_po", {}, pair(), 0.255530989018),
        # the same, clipped at 2 * 0.5: softplus(-1)
        ("chi_po", {"max_reward": 0.5}, pair(), 0.313261687518),
        # softplus(0.1 * 2) + 2.5
        ("cpo", {}, pair(), 3.298138869382),
        # u = 0.25, g = sigmoid(5) = 0.993307: 0.006693 * 0.575939 + 0.993307 * 0.778801
        ("discopop", {"tau": 0.05}, pair(), 0.777443062209),
        # -e^-2 + e^3 = 19.950202, softplus(-1.995020)
        ("dpo", {"divergence": "forward_kl"}, pair(), 0.127522925548),
        # log sigmoid(2) - log sigmoid(-3) = -0.126928 + 3.048587, softplus(-0.292166)
        ("dpo", {"divergence": "js"}, pair(), 0.557696594274),
        # 2 (1 - e^-1) - 2 (1 - e^1.5) = 8.227619, softplus(-0.822762)
        ("dpo", {"divergence": "alpha"}, pair(), 0.364099141533),
        # smoothing adds 0.2 u
        (
            "dpo",
            {"divergence": "alpha", "label_smoothing": 0.2},
            pair(),
            0.364099141533 + 0.164552385167,
        ),
        # h_w > 0: softplus(-0.3 * 5)
        ("dpop", {}, pair(), 0.201413277983),
        # h_w = -3, Delta = -5: 0.3 (5 + 50 * 3) = 46.5
        ("dpop", {}, pair(-3.0, 2.0), 46.5),
        # p = sigmoid(0.5) = 0.622459: p log(p / 0.999) + (1 - p) log((1 - p) / 0.001)
        #   = 0.622459 * -0.473077 + 0.377541 * 5.933678
        ("exo", {}, pair(), 1.945734000110),
        # u = 5 (2 / 4 + 3 / 2) = 10
        ("length_normalised_dpo", {}, pair(), 0.000045398899),
        # twice DPO's u = 0.5: softplus(-1)
        ("mallows", {}, pair(dispersion=entropy(factor=2)), 0.313261687518),
        # phi = 0.36^(1/2) = 0.6, one place: g = 1 / 1.6 = 0.625
        ("mallows_phi", {"beta": 0.2, "scale": 1}, pair(dispersion=0.36), math.log(1.6)),
        # two places: g = 3 / (1 - 0.216) - 2 / (1 - 0.36) = 3.826531 - 3.125
        ("mallows_phi", {"beta": 0.4, "scale": 1}, pair(dispersion=0.36), 0.354490742124),
        # one place the wrong way: g = 0.375
        ("mallows_phi", {"beta": 0.2, "scale": 1}, pair(dispersion=0.36).swapped(), 0.980829253012),
        # h_l < 0 does not count: softplus(-0.2)
        ("minor_dpo", {}, pair(), 0.598138869382),
        # h = (-3, 2): softplus(0.5)
        ("minor_dpo", {}, pair(-3.0, 2.0), 0.974076984180),
        # -sigmoid(0.1 * -2)
        ("mpo", {}, pair(), -0.450166002688),
        # softplus(-0.02) + softplus(0.02) / 2 + softplus(-0.03) / 2
        #   = 0.683197 + 0.351599 + 0.339130
        ("nca", {}, pair(), 1.373925607761),
        # u = 0.5 - log e
        ("odpo", {}, pair(score_gap=math.e), 0.974076984180),
        # odds: log(e^-2.5 / (1 - e^-2.5)) = -2.414350 and -3.981515; 2.5 + 0.1 softplus(-1.567165)
        ("orpo", {}, pair(), 2.518949230176),
        # u = 0.5 + 0.01 (4 - 2)
        ("r_dpo", {}, pair(), 0.466573094165),
        # softplus(-0.25) + 0.005 * 0.05 * 10
        ("rpo", {}, pair(), 0.578439419879),
        # softplus(-0.25) + 0.2 * 2.5
        ("rpo", {"anchor": "mean", "eta": 0.2}, pair(), 1.075939419879),
        # u = 2 (-2.5 + 4 - 0.25) = 2.5
        ("simpo", {}, pair(), 0.078889734293),
        # smoothing adds 0.1 u
        ("simpo", {"label_smoothing": 0.1}, pair(), 0.328889734293),
        # targets +-500: (498^2 + 497^2) / 2
        ("sppo", {}, pair(), 247506.5),
        # targets (0.7 - 0.5) / 0.1 = 2 and -1: (0 + 2^2) / 2
        (
            "sppo",
            {"beta": 0.1, "targets": "probabilities"},
            pair(chosen_win_rate=0.7, rejected_win_rate=0.4),
            2.0,
        ),
        # weights e^(-2.5 + 2) and e^(-4 + 3.5): e^-1 softplus(-0.05)
        ("wpo", {}, pair(chosen_collision=-2.0, rejected_collision=-3.5), 0.245912561757),
        # weights e^(-2.5 + 3) and e^(-4 + 4.5): their product is clamped at 1
        ("wpo", {}, pair(chosen_collision=-3.0, rejected_collision=-4.5), 0.668459648013),
    ],
)
def test_values_by_hand(name, hyper, logps, expected):
    assert loss(name, logps, **hyper) == pytest.approx(expected, abs=1e-11)


BETA_S, BETA_MEAN = ("cpo", "mpo"), ("orpo", "simpo")
BETA_H = """aipo anchored_down anchored_zero chi_po discopop dpo dpop exo length_normalised_dpo
mallows mallows_phi minor_dpo nca odpo r_dpo rpo sppo wpo""".split()


def test_rewards_by_hand():
    extras = ("dispersion", "score_gap", "chosen_collision", "rejected_collision")
    logps = pair(**dict.fromkeys(extras, 0.5))
    logps.policy_chosen.requires_grad_()
    logps.policy_rejected.requires_grad_()
    for names, rewards in [
        (BETA_H, (1.0, -1.5)),
        (BETA_S, (-5.0, -4.0)),
        (BETA_MEAN, (-1.25, -2.0)),
    ]:
        for name in names:
            out = make_objective(name, beta=0.5)(logps)
            assert (out.chosen_reward.item(), out.rejected_reward.item()) == rewards
            assert not (out.chosen_reward.requires_grad or out.rejected_reward.requires_grad)


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
@pytest.mark.parametrize(
    ("name", "hyper", "constant"),
    [
        ("anchored_down", {}, 1.0),
        ("anchored_zero", {}, 1.0),
        ("chi_po", {}, LN2),
        ("discopop", {}, 0.5 * LN2 + 0.5),
        *(("dpo", {"divergence": d}, LN2) for d in ("forward_kl", "js", "alpha")),
        ("dpop", {}, LN2),
        # -log 2 - 1/2 log(e (1 - e)); the second e is what log-weights 0 and -10 stand for
        ("exo", {}, 2.761230709),
        ("exo", {"label_smoothing": sigmoid(-10)}, 4.306898218),
        ("length_normalised_dpo", {}, LN2),
        ("mallows", {}, LN2),
        ("minor_dpo", {}, LN2),
        ("nca", {}, 2 * LN2),
        ("r_dpo", {}, softplus(-0.02)),
        ("wpo", {}, math.exp(-1) * LN2),
    ],
)
def test_where_policy_is_reference_the_loss_is_the_known_constant(name, hyper, constant, beta):
    same = pair(
        0.0,
        0.0,
        r_w=-10,
        r_l=-8,
        dispersion=0.2,
        chosen_collision=-2.0,
        rejected_collision=-3.5,
    )
    assert loss(name, same, beta=beta, **hyper) == pytest.approx(constant, abs=1e-7)


WPO_ALONE = {"chosen_collision": -1e4, "rejected_collision": -1e4}  # weights clamped at 1
REDUCTIONS = [
    ("aipo", {"alpha": 0, "nll": 0}, "dpo", {}),
    ("aipo", {"alpha": 0, "nll": 0.3}, "rpo", {"beta": 0.1, "eta": 0.3, "anchor": "mean"}),
    ("chi_po", {"chi": 0, "max_reward": None}, "dpo", {}),
    ("cpo", {"nll": 0}, "reference_free", {}),
    ("dpo", {"divergence": "reverse_kl"}, "dpo", {}),
    ("dpop", {"penalty": 0}, "dpo", {"beta": 0.3}),
    ("odpo", {"alpha": 0}, "dpo", {}),
    ("odpo", {"floor": 0.1}, "dpo", {}),  # a gap of 1, whose logarithm is 0
    ("r_dpo", {"alpha": 0}, "dpo", {}),
    ("rpo", {"eta": 0}, "dpo", {"beta": 0.05}),
    ("rpo", {"eta": 0, "anchor": "mean"}, "dpo", {"beta": 0.05}),
    ("wpo", {}, "dpo", {"beta": 0.01}),
]


def assert_same(logps, name, hyper, other, other_hyper, where=...):
    mine = loss_and_slopes(logps, name, hyper)
    theirs = loss_and_slopes(logps, other, other_hyper)
    for a, b in zip(mine, theirs, strict=True):
        assert torch.equal(a[where], b[where])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "hyper", "other", "other_hyper"), REDUCTIONS)
def test_it_is_the_other_bit_for_bit(name, hyper, other, other_hyper, dtype):
    logps = random_pairs(dtype=dtype, score_gap=1.0, **WPO_ALONE)
    assert_same(logps, name, hyper, other, other_hyper)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reductions_that_hold_for_some_pairs_bit_for_bit(dtype):
    logps = random_pairs(1, dtype=dtype)
    above = logps.rejected_log_ratio >= 0
    assert 50 < above.sum() < 150
    assert_same(logps, "minor_dpo", {}, "dpo", {}, above)
    risen = logps.chosen_log_ratio >= 0
    assert 50 < risen.sum() < 150
    assert_same(logps, "dpop", {}, "dpo", {"beta": 0.3}, risen)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_simpo_without_margin_at_equal_lengths_is_reference_free(dtype):
    # Divisions by 8 are exact.
    drawn = random_pairs(2, dtype=dtype)
    eight = torch.full_like(drawn.chosen_length, 8)
    sums = (drawn.policy_chosen, drawn.policy_rejected)
    logps = PairLogps(*sums, drawn.reference_chosen, drawn.reference_rejected, eight, eight)
    hyper = {"beta": 2.0, "gamma_beta_ratio": 0}
    assert_same(logps, "simpo", hyper, "reference_free", {"beta": 0.25})
