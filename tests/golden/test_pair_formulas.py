"""Each pairwise objective against its formula in NumPy at float64: values and slopes.

The formulas are written out from the papers and codes, naively and with their numbers in place, so
that they share nothing with the library but the inputs.
"""

from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from itertools import product

import numpy as np
import pytest
import torch

from fastslow.objectives import PairLogps, make_objective


@dataclass(frozen=True)
class Numbers:
    """Sums s and r and lengths n of the winner (w) and the loser (l), with all extras."""

    sw: np.ndarray
    sl: np.ndarray
    rw: np.ndarray
    rl: np.ndarray
    nw: np.ndarray
    nl: np.ndarray
    gap: np.ndarray
    dispersion: np.ndarray
    pw: np.ndarray
    pl: np.ndarray
    cw: np.ndarray
    cl: np.ndarray
    weight: np.ndarray
    """WPO's, at the place where slopes are taken: it is held fixed while s moves."""

    @property
    def hw(self):
        return self.sw - self.rw

    @property
    def hl(self):
        return self.sl - self.rl

    @property
    def delta(self):
        return self.hw - self.hl

    def logps(self, grad=False):
        sums = [torch.tensor(v) for v in (self.sw, self.sl, self.rw, self.rl)]
        for tensor in sums[:2]:
            tensor.requires_grad_(grad)
        extras = {
            "score_gap": self.gap,
            "dispersion": self.dispersion,
            "chosen_win_rate": self.pw,
            "rejected_win_rate": self.pl,
            "chosen_collision": self.cw,
            "rejected_collision": self.cl,
        }
        return PairLogps(
            *sums,
            torch.tensor(self.nw),
            torch.tensor(self.nl),
            extras={name: torch.tensor(values) for name, values in extras.items()},
        )


def draw(seed, spread, count=80):
    """Pairs whose log-ratios scatter by `spread` nats."""
    rng = np.random.default_rng(seed)
    nw, nl = rng.integers(1, 90, (2, count))
    rw, rl = -nw * rng.uniform(0.3, 3, count), -nl * rng.uniform(0.3, 3, count)
    # Probabilities stay below 1: no mean above -0.01.
    sw = np.minimum(rw + rng.normal(0, spread, count), -0.01 * nw)
    sl = np.minimum(rl + rng.normal(0, spread, count), -0.01 * nl)
    pw, pl = rng.uniform(0.1, 0.9, (2, count))
    cw, cl = rng.uniform(-3, 0, (2, count))
    weight = np.minimum(1, np.exp(sw / nw - cw) * np.exp(sl / nl - cl))
    gap, dispersion = rng.uniform(-1, 6, count), rng.uniform(0.01, 0.9, count)
    return Numbers(sw, sl, rw, rl, nw, nl, gap, dispersion, pw, pl, cw, cl, weight)


def nls(x):
    """-log sigmoid(x)."""
    return np.logaddexp(0, -x)


def sigmoid(x):
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), 1 - 1 / (1 + np.exp(-np.abs(x))))


def chi_po(d, chi, bound):
    # The exponent's cap, 20, is a stated deviation. Equal powers cancel before h is added.
    power_w, power_l = (np.exp(np.minimum(h, 20)) for h in (d.hw, d.hl))
    return nls(np.clip(0.05 * (d.delta + chi * (power_w - power_l)), -2 * bound, 2 * bound))


def forward_kl(d):
    # -1 / ratio, the exponent capped at 30.
    return nls(0.1 * (-np.exp(np.minimum(-d.hw, 30)) + np.exp(np.minimum(-d.hl, 30))))


def js(d):
    # log(2 ratio / (1 + ratio)) = log 2 - log(1 + 1 / ratio)
    return nls(0.1 * (np.log1p(np.exp(-d.hl)) - np.log1p(np.exp(-d.hw))))


def alpha_divergence(d):
    # (1 - ratio^-0.4) / 0.4
    link_w, link_l = ((1 - np.exp(np.minimum(-0.4 * h, 30))) / 0.4 for h in (d.hw, d.hl))
    return nls(0.1 * (link_w - link_l))


def discopop(d):
    u = 0.05 * d.delta
    gate = sigmoid(u / 0.3)
    return (1 - gate) * nls(u) + gate * np.exp(-u)


def exo(d):
    p, q = sigmoid(0.1 * d.delta), sigmoid(-0.1 * d.delta)
    return p * (np.log(p) - np.log(0.99)) + q * (np.log(q) - np.log(0.01))


def mallows_phi(d):
    return np.array([_mallows_phi(*row) for row in zip(0.1 * d.delta, d.dispersion, strict=True)])


def _mallows_phi(u, dispersion):
    """The formula as printed, with 80 digits because its two terms cancel."""
    with localcontext() as context:
        context.prec = 80
        phi, k = Decimal(dispersion) ** (Decimal(0.5) / 2), abs(Decimal(u))
        won = (k + 1) / (1 - phi ** (k + 1)) - k / (1 - phi**k)
        return float(-(won if u > 0 else 1 - won).ln())


def orpo(d):
    p_w, p_l = np.exp(d.sw / d.nw), np.exp(d.sl / d.nl)
    return -d.sw / d.nw + 0.3 * nls(np.log(p_w / (1 - p_w)) - np.log(p_l / (1 - p_l)))


def squares(d, target_w, target_l):
    return ((d.hw - target_w) ** 2 + (d.hl - target_l) ** 2) / 2


CASES = [
    (
        "aipo",
        {"beta": 0.2, "alpha": 0.3, "nll": 0.5},
        lambda d: nls(0.2 * (d.sw - d.sl - 1.3 * (d.rw - d.rl))) - 0.5 * d.sw / d.nw,
    ),
    ("anchored_down", {"beta": 0.1}, lambda d: sigmoid(0.1 * d.hw) + 1 - sigmoid(0.1 * d.delta)),
    ("anchored_zero", {"beta": 0.1}, lambda d: 1 - sigmoid(0.1 * d.hw) + sigmoid(0.1 * d.hl)),
    ("chi_po", {"beta": 0.05}, lambda d: chi_po(d, 1, 2)),
    ("chi_po", {"beta": 0.05, "chi": 0.25, "max_reward": None}, lambda d: chi_po(d, 0.25, np.inf)),
    ("cpo", {"beta": 0.2}, lambda d: nls(0.2 * (d.sw - d.sl)) - d.sw / d.nw),
    ("discopop", {"tau": 0.3}, discopop),
    ("dpo", {}, lambda d: nls(0.1 * d.delta)),
    ("dpo", {"divergence": "forward_kl"}, forward_kl),
    ("dpo", {"divergence": "js"}, js),
    ("dpo", {"divergence": "alpha", "divergence_alpha": 0.4}, alpha_divergence),
    ("dpop", {"penalty": 5}, lambda d: nls(0.3 * (d.delta - 5 * np.maximum(0, d.rw - d.sw)))),
    ("exo", {"label_smoothing": 0.01}, exo),
    ("length_normalised_dpo", {}, lambda d: nls(5 * (d.hw / d.nw - d.hl / d.nl))),
    ("mallows", {}, lambda d: nls(0.1 * -0.29 * np.log(d.dispersion) * d.delta)),
    ("mallows_phi", {"scale": 0.5}, mallows_phi),
    ("minor_dpo", {}, lambda d: nls(0.1 * d.hw - 0.1 * np.maximum(0, d.hl))),
    ("mpo", {}, lambda d: -sigmoid(0.1 * (d.sw - d.sl))),
    (
        "nca",
        {"beta": 0.1},
        lambda d: nls(0.1 * d.hw) + nls(-0.1 * d.hw) / 2 + nls(-0.1 * d.hl) / 2,
    ),
    (
        "odpo",
        {"alpha": 0.5, "floor": 0.1},
        lambda d: nls(0.1 * d.delta - 0.5 * np.log(np.maximum(d.gap, 0.1))),
    ),
    ("orpo", {"beta": 0.3}, orpo),
    ("r_dpo", {"alpha": 0.02}, lambda d: nls(0.1 * d.delta + 0.02 * (d.nw - d.nl))),
    ("rpo", {}, lambda d: nls(0.05 * d.delta) - 0.005 * 0.05 * d.sw),
    (
        "rpo",
        {"beta": 0.5, "eta": 0.2, "anchor": "mean"},
        lambda d: nls(0.5 * d.delta) - 0.2 * d.sw / d.nw,
    ),
    ("simpo", {}, lambda d: nls(2 * (d.sw / d.nw - d.sl / d.nl) - 0.5)),
    (
        "simpo",
        {"label_smoothing": 0.1},
        lambda d: (
            0.9 * nls(2 * (d.sw / d.nw - d.sl / d.nl) - 0.5)
            + 0.1 * nls(0.5 - 2 * (d.sw / d.nw - d.sl / d.nl))
        ),
    ),
    ("sppo", {"beta": 0.01}, lambda d: squares(d, 50, -50)),
    (
        "sppo",
        {"beta": 0.01, "targets": "probabilities"},
        lambda d: squares(d, 100 * (d.pw - 0.5), 100 * (d.pl - 0.5)),
    ),
    ("wpo", {}, lambda d: d.weight * nls(0.01 * d.delta)),
]
IDS = [" ".join([name, *map(str, hyper.values())]) for name, hyper, _ in CASES]


@pytest.mark.parametrize(("name", "hyper", "formula"), CASES, ids=IDS)
@pytest.mark.parametrize("spread", [1, 30])
def test_values(name, hyper, formula, spread):
    for seed in range(3):
        numbers = draw(seed, spread)
        loss = make_objective(name, **hyper)(numbers.logps()).loss.numpy()
        np.testing.assert_allclose(loss, formula(numbers), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "hyper", "formula"), CASES, ids=IDS)
def test_slopes_are_the_central_differences_of_the_formula(name, hyper, formula):
    numbers, step = draw(7, spread=3), 1e-4
    logps = numbers.logps(grad=True)
    make_objective(name, **hyper)(logps).loss.sum().backward()
    for key, tensor in (("sw", logps.policy_chosen), ("sl", logps.policy_rejected)):
        up, down = (
            formula(replace(numbers, **{key: getattr(numbers, key) + way * step}))
            for way in (1, -1)
        )
        np.testing.assert_allclose(
            tensor.grad.numpy(), (up - down) / (2 * step), rtol=1e-6, atol=1e-9
        )


# Every mix of an almost certain and an impossible response under policy and reference.
EXTREMES = list(zip(*product((-1.0, -10001.0), repeat=4), strict=True))


@pytest.mark.parametrize(("name", "hyper", "formula"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("extra", [-5.0, 0.0, 0.5, 1.0, 100.0])
def test_gaps_of_ten_thousand_nats_stay_finite(name, hyper, formula, dtype, extra):
    objective = make_objective(name, **hyper)
    sums = [torch.tensor(values).to(dtype) for values in EXTREMES]
    for tensor in sums[:2]:
        tensor.requires_grad_()
    logps = PairLogps(
        *sums,
        torch.full((16,), 1),
        torch.full((16,), 40),
        extras={name: torch.full((16,), extra) for name in objective.needs},
    )
    out = objective(logps)
    assert out.loss.dtype == torch.float32
    out.loss.sum().backward()
    for values in (out.loss, sums[0].grad, sums[1].grad):
        assert values.isfinite().all()
