"""The contract of every objective. New ones are found through the table."""

from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck
from torch.overrides import TorchFunctionMode

from fastslow.objectives import PairLogps, make_objective, objective_names
from fastslow.testing import check_objective, checks, example
from fastslow.testing.examples import moved, slopes_of, with_tensors

NAMES = [name for name in objective_names() if make_objective(name).takes != "tokens"]
"""The others stand in tests/objectives/test_ppo.py."""
SETTINGS = [
    ("aipo", {"alpha": 0.0}),
    ("aipo", {"nll": 0.0}),
    ("beta_dpo", {"filter": 0.0}),
    ("beta_dpo", {"gain": 0.0}),
    ("chi_po", {"chi": 0.0}),
    ("chi_po", {"max_reward": None}),
    ("cpo", {"nll": 0.0}),
    ("davidson", {"prevalence": 0.0}),
    ("discopop", {"tau": 0.05}),
    ("dpo", {"beta": 5.0}),
    ("dpo", {"label_smoothing": 0.2}),
    ("dpo", {"divergence": "forward_kl"}),
    ("dpo", {"divergence": "js"}),
    ("dpo", {"divergence": "alpha", "divergence_alpha": 0.3}),
    ("dpop", {"penalty": 0.0}),
    ("exo", {"label_smoothing": 0.2}),
    ("exo_ranked", {"temperature": 2.0}),
    ("ipo", {"length_normalised": False}),
    ("kto", {"desirable_weight": 2.0, "undesirable_weight": 0.5}),
    ("odpo", {"alpha": 0.0}),
    ("odpo", {"floor": 0.2}),
    ("r_dpo", {"alpha": -0.05}),
    ("r_dpo", {"alpha": 0.0}),
    ("rao_kupper", {"threshold": 0.0}),
    ("robust_dpo", {"label_smoothing": 0.3}),
    ("rpo", {"anchor": "mean", "eta": 0.2}),
    ("rpo", {"eta": 0.0}),
    ("sft", {"reduction": "sum"}),
    ("simpo", {"gamma_beta_ratio": 0.0}),
    ("simpo", {"label_smoothing": 0.2}),
    ("sppo", {"beta": 0.1}),
    ("sppo", {"targets": "probabilities"}),
    ("dpo + 0.2 * sft", {}),
    ("alpha_dpo + 0.5 * odpo", {}),
    ("bco + 0.5 * kto", {}),
    ("davidson + 0.5 * rao_kupper", {}),
    ("plackett_luce + 0.1 * sft", {}),
    ("davidson", {"nll_weight": 0.1}),
    ("dpo", {"nll_weight": 0.1}),
    ("sdpo", {"nll_weight": 0.1}),
    ("wpo", {"nll_weight": 0.1}),
]
VARIANTS = [(name, {}) for name in NAMES] + SETTINGS

# What some methods do not keep, by their nature.
PARTS_HELD_FIXED = ("alpha_dpo", "beta_dpo", "wpo")
"""A margin, beta or weight of theirs depends on the policy and is a constant to the gradient."""
BEGINS_BACKWARDS = ("discopop", {"tau": 0.05})
"""Its slope at a margin of 0 is (1 - log 2) / (4 tau) - 3/4, above 0 for tau below 0.102."""
BROKEN = [
    *((name, {}, ["gradient_is_derivative"]) for name in PARTS_HELD_FIXED),
    ("rloo", {}, ["gradient_is_derivative"]),  # Its own test takes the exact expectation.
    (*BEGINS_BACKWARDS, ["starts_towards_the_better", "learns_three_answers"]),
]
"""Name, the settings it takes for that, and the checks that fail."""


def variant_id(variant):
    return f"{variant[0]}{variant[1] or ''}"


def exceptions(name, hyper):
    return [
        check
        for term in name.split(" + ")
        for broken, settings, failing in BROKEN
        if broken == term and settings.items() <= hyper.items()
        for check in failing
    ]


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_id)
def test_it_keeps_the_contract(variant):
    name, hyper = variant
    check_objective(make_objective(name, **hyper), but=exceptions(name, hyper))


@pytest.mark.parametrize(("name", "hyper", "failing"), BROKEN)
def test_exceptions_are_needed(name, hyper, failing):
    todo = checks(make_objective(name, **hyper))
    for check in failing:
        with pytest.raises(AssertionError):
            todo[check]()


OFF_SCALE = {"mallows_phi": 13, "orpo": 1 / 16, "rloo": 5}
"""Whose slope at the reference is another than the inverse temperature tells: by the dispersion of
a prompt's answers, by a likelihood beside the odds, by how good the answers are."""


@pytest.mark.parametrize("name", NAMES)
def test_the_chase_is_about_alpha_of_the_slope_that_the_loss_begins_with(name):
    objective = make_objective(name)
    logps = moved(example(objective, 64, dtype=torch.float64), 0.0)
    if "tie" in logps.extras:
        logps = with_tensors(logps, {"tie": torch.zeros(64, dtype=torch.float64)})
    margin = slopes_of(objective.chase_margin, logps)
    own = slopes_of(lambda given: objective(given).loss, logps)
    up = sum((slope * slope).sum() for slope in margin.values())
    loss = -sum((own[key] * slope).sum() for key, slope in margin.items())
    share = (objective.chase_scale * objective.chase_beta / 2 * up / loss).item()
    assert 1 / 4 < share / OFF_SCALE.get(name, 1) <= 4.1


class Held(TorchFunctionMode):
    """Within it, the n-th `detach` since `turn` was 0 gives what it gave the first time."""

    def __init__(self):
        super().__init__()
        self.kept, self.turn = [], 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        value = func(*args, **(kwargs or {}))
        if func is not torch.Tensor.detach:
            return value
        if self.turn == len(self.kept):
            self.kept.append(value.clone())
        self.turn += 1
        return self.kept[self.turn - 1]


@pytest.mark.parametrize("name", PARTS_HELD_FIXED)
def test_the_gradient_is_the_derivative_with_the_held_parts_fixed(name):
    objective, held = make_objective(name), Held()
    logps = example(objective, dtype=torch.float64, scale=8.0, grad=True)

    def loss(chosen, rejected):
        held.turn = 0
        with held:
            return objective(replace(logps, policy_chosen=chosen, policy_rejected=rejected)).loss

    assert gradcheck(loss, (logps.policy_chosen, logps.policy_rejected), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in NAMES if make_objective(n).takes == "rankings"])
def test_what_stands_for_absent_responses_means_nothing(name):
    objective = make_objective(name)
    logps, other = example(objective), example(objective, seed=1)
    fields = ("policy", "reference", "length", "rank")

    def mixed(value, junk):
        return torch.where(logps.present, value, junk)

    changed = replace(
        logps,
        **{field: mixed(getattr(logps, field), getattr(other, field)) for field in fields},
        extras={key: mixed(value, other.extras[key]) for key, value in logps.extras.items()},
    )
    assert not logps.present.all()
    assert torch.equal(objective(logps).loss, objective(changed).loss)


def test_shapes_that_differ_are_refused_with_both_printed():
    good = torch.zeros(3)
    with pytest.raises(ValueError, match=r"reference_rejected has shape \[2\].*\[3\]"):
        PairLogps(good, good, good, torch.zeros(2), good, good)
    with pytest.raises(ValueError, match=r"\[3, 2\].*one sum per response"):
        PairLogps(*[torch.zeros(3, 2)] * 6)
