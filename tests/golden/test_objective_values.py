"""Values of the objectives by arithmetic, and against formulas in NumPy at float64."""

import math

import numpy as np
import pytest
import torch

from fastslow.errors import ConfigError
from fastslow.objectives import PairLogps, make_objective, objective_names

LN2 = math.log(2)


def one(chosen, rejected, reference_chosen, reference_rejected, lengths=(4, 2)):
    values = (chosen, rejected, reference_chosen, reference_rejected)
    sums = [torch.tensor([v], dtype=torch.float64) for v in values]
    return PairLogps(*sums, torch.tensor([lengths[0]]), torch.tensor([lengths[1]]))


# h_w = -10 - -12 = 2, h_l = -8 - -5 = -3, Delta = 5, u = 0.1 * 5 = 0.5
PAIR = one(-10.0, -8.0, -12.0, -5.0)
SOFT = math.log(1 + math.exp(-0.5))  # -log sigmoid(0.5) = 0.474077


@pytest.mark.parametrize(
    ("name", "hyper", "expected"),
    [
        ("dpo", {}, SOFT),
        # 0.8 * SOFT + 0.2 * (SOFT + 0.5)
        ("dpo", {"label_smoothing": 0.2}, SOFT + 0.1),
        # (0.9 * SOFT - 0.1 * (SOFT + 0.5)) / 0.8
        ("robust_dpo", {"label_smoothing": 0.1}, SOFT - 0.0625),
        ("hinge", {}, 0.5),
        # target 1 / 0.2 = 5 is met by the sum: 5 - 5
        ("ipo", {"length_normalised": False}, 0.0),
        # 2 / 4 - -3 / 2 = 2, and (2 - 5)^2
        ("ipo", {}, 9.0),
        # -log sigmoid(0.1 * (-10 + 8))
        ("reference_free", {}, math.log(1 + math.exp(0.2))),
    ],
)
def test_values_by_hand(name, hyper, expected):
    assert make_objective(name, **hyper)(PAIR).loss.item() == pytest.approx(expected, abs=1e-12)


def test_rewards_by_hand():
    out = make_objective("dpo", beta=0.5)(PAIR)
    assert out.chosen_reward.item() == 1.0 and out.rejected_reward.item() == -1.5
    free = make_objective("reference_free", beta=0.5)(PAIR)
    assert free.chosen_reward.item() == -5.0 and free.rejected_reward.item() == -4.0


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_where_policy_is_reference_the_loss_is_the_known_constant(beta):
    same = one(-7.0, -3.0, -7.0, -3.0)
    for name, hyper, constant in [
        ("dpo", {}, LN2),
        ("dpo", {"label_smoothing": 0.3}, LN2),
        ("robust_dpo", {}, LN2),
        ("hinge", {}, 1.0),
        ("ipo", {}, 1 / (4 * beta**2)),
    ]:
        loss = make_objective(name, beta=beta, **hyper)(same).loss.item()
        assert loss == pytest.approx(constant, rel=1e-12)


def random_pairs(seed):
    generator = np.random.default_rng(seed)
    sums = generator.normal(-60, 25, (4, 50))
    lengths = generator.integers(1, 90, (2, 50))
    tensors = [torch.tensor(row) for row in (*sums, *lengths)]
    return PairLogps(*tensors), sums, lengths


def log_sigmoid(x):
    return -np.logaddexp(0, -x)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("beta", [0.05, 0.1, 0.7])
def test_float64_numpy_formulas(seed, beta):
    logps, (sw, sl, rw, rl), (nw, nl) = random_pairs(seed)
    delta = (sw - rw) - (sl - rl)
    u, e = beta * delta, 0.15
    expected = {
        ("dpo",): -log_sigmoid(u),
        ("dpo", ("label_smoothing", e)): -(1 - e) * log_sigmoid(u) - e * log_sigmoid(-u),
        ("robust_dpo", ("label_smoothing", e)): (
            -(1 - e) * log_sigmoid(u) + e * log_sigmoid(-u)
        ) / (1 - 2 * e),
        ("hinge",): np.maximum(0, 1 - u),
        ("ipo", ("length_normalised", False)): (delta - 1 / (2 * beta)) ** 2,
        ("ipo",): ((sw - rw) / nw - (sl - rl) / nl - 1 / (2 * beta)) ** 2,
        ("reference_free",): -log_sigmoid(beta * (sw - sl)),
    }  # fmt: skip
    for (name, *hyper), values in expected.items():
        loss = make_objective(name, beta=beta, **dict(hyper))(logps).loss.numpy()
        np.testing.assert_allclose(loss, values, rtol=1e-10, atol=1e-10)


def test_without_smoothing_the_noise_aware_forms_are_dpo_bit_for_bit():
    logps, *_ = random_pairs(0)
    plain = make_objective("dpo")(logps).loss
    assert torch.equal(make_objective("dpo", label_smoothing=0.0)(logps).loss, plain)
    assert torch.equal(make_objective("robust_dpo", label_smoothing=0.0)(logps).loss, plain)


def test_reference_free_is_dpo_with_a_flat_reference_bit_for_bit():
    logps, *_ = random_pairs(1)
    zero = torch.zeros_like(logps.policy_chosen)
    flat = PairLogps(
        logps.policy_chosen,
        logps.policy_rejected,
        zero,
        zero,
        logps.chosen_length,
        logps.rejected_length,
    )
    free, plain = make_objective("reference_free")(logps), make_objective("dpo")(flat)
    assert torch.equal(free.loss, plain.loss)
    assert torch.equal(free.chosen_reward, plain.chosen_reward)


def slope(name, u, **hyper):
    chosen = torch.tensor([u / 0.1], dtype=torch.float64, requires_grad=True)
    zero, length = torch.zeros(1, dtype=torch.float64), torch.ones(1)
    make_objective(name, **hyper)(
        PairLogps(chosen, zero, zero, zero, length, length)
    ).loss.backward()
    return chosen.grad.item() / 0.1


def test_slopes_and_limits():
    assert slope("dpo", 0.0) == pytest.approx(-0.5)
    # conservative DPO rests at u = log(0.9 / 0.1), where its loss is the entropy 0.325083
    rest = math.log(9)
    assert slope("dpo", rest, label_smoothing=0.1) == pytest.approx(0, abs=1e-12)
    at_rest = make_objective("dpo", beta=1.0, label_smoothing=0.1)(one(rest, 0.0, 0.0, 0.0))
    assert at_rest.loss.item() == pytest.approx(0.325083, abs=1e-6)
    # robust DPO never rests: -e / (1 - 2e) on one side, -(1 - e) / (1 - 2e) on the other
    assert slope("robust_dpo", 60.0, label_smoothing=0.1) == pytest.approx(-0.125)
    assert slope("robust_dpo", -60.0, label_smoothing=0.1) == pytest.approx(-1.125)
    assert slope("hinge", 1.01) == 0.0


def test_symmetries():
    logps, *_ = random_pairs(2)
    swapped = PairLogps(
        logps.policy_rejected,
        logps.policy_chosen,
        logps.reference_rejected,
        logps.reference_chosen,
        logps.rejected_length,
        logps.chosen_length,
    )
    u = 0.1 * (logps.policy_margin - logps.reference_margin)
    dpo = make_objective("dpo")
    # L(-u) - L(u) = u
    torch.testing.assert_close(dpo(swapped).loss - dpo(logps).loss, u)
    # robust DPO is unbiased: (1 - e) L(u) + e L(-u) is the loss without noise
    robust = make_objective("robust_dpo", label_smoothing=0.2)
    mean = 0.8 * robust(logps).loss + 0.2 * robust(swapped).loss
    torch.testing.assert_close(mean, dpo(logps).loss)


def test_adding_one_constant_to_both_responses_changes_nothing():
    logps = one(-10.0, -8.0, -12.0, -5.0)
    moved = one(-3.0, -1.0, -12.0, -5.0)
    for name in ("dpo", "robust_dpo", "hinge", "reference_free"):
        objective = make_objective(name)
        assert objective(moved).loss.item() == pytest.approx(objective(logps).loss.item())


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("dpoo", {}, "objective.name: got 'dpoo'; did you mean 'dpo'"),
        ("dop", {}, "objective.name: got 'dop'; did you mean 'dpo'"),
        ("sigmoid", {}, "it is TRL's name of dpo: write objective.name=dpo"),
        ("dpo + 0.2 * exo_pair", {}, "it is TRL's name of exo: write objective.name=exo"),
        ("sigmoid_norm", {}, "TRL's name of length_normalised_dpo"),
        ("bco_pair", {}, "here bco takes ratings: write objective.name=bco"),
        ("aot", {}, "this loss of TRL is not here"),
        ("dpo", {"bta": 1}, "objective.bta: dpo has no such setting; did you mean 'beta'"),
        ("dpo", {"beta": 0}, "objective.beta: got 0; must be a number above 0"),
        ("dpo", {"beta": "big"}, "objective.beta: got 'big'"),
        ("hinge", {"beta": math.inf}, "must be a number above 0"),
        ("dpo", {"label_smoothing": 0.5}, "from 0.0 up to but below 0.5"),
        ("robust_dpo", {"label_smoothing": -0.1}, "objective.label_smoothing: got -0.1"),
        ("ipo", {"length_normalised": "no"}, "allowed are true, false"),
    ],
)
def test_bad_settings_are_refused(name, hyper, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        make_objective(name, **hyper)


NAMES = """
aipo alpha_dpo anchored_down anchored_zero bco beta_dpo chi_po cpo davidson discopop dpo
dpop espo exo exo_ranked hinge ipo kto length_normalised_dpo mallows mallows_phi minor_dpo mpo
nca odpo orpo plackett_luce ppo r_dpo rao_kupper reference_free rloo robust_dpo rpo sdpo sft simpo
sppo wpo
"""


def test_names_are_sorted_and_complete():
    assert objective_names() == tuple(NAMES.split()) == tuple(sorted(NAMES.split()))
