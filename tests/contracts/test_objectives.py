"""The contract of every objective. New ones are found through the table."""

import math
from dataclasses import fields

import pytest
import torch
from torch.autograd import gradcheck

from fastslow.objectives import PairLogps, make_objective, objective_names

VARIANTS = [(name, {}) for name in objective_names()] + [
    ("dpo", {"label_smoothing": 0.2}),
    ("ipo", {"length_normalised": False}),
]


def pairs(count=6, dtype=torch.float32, scale=20.0, seed=0, grad=False):
    generator = torch.Generator().manual_seed(seed)
    values = [-scale * torch.rand(count, generator=generator, dtype=dtype) for _ in range(4)]
    lengths = [torch.randint(1, 40, (count,), generator=generator) for _ in range(2)]
    if grad:
        values[0].requires_grad_()
        values[1].requires_grad_()
    return PairLogps(*values, *lengths)


def replaced(logps, **changes):
    values = {f.name: getattr(logps, f.name) for f in fields(logps)}
    return PairLogps(**(values | changes))


@pytest.fixture(params=VARIANTS, ids=lambda v: f"{v[0]}{v[1] or ''}")
def objective(request):
    name, hyper = request.param
    return make_objective(name, **hyper)


def test_gives_one_float32_loss_and_detached_rewards_per_pair(objective):
    out = objective(pairs(grad=True))
    for tensor in (out.loss, out.chosen_reward, out.rejected_reward):
        assert tensor.shape == (6,) and tensor.dtype == torch.float32
    assert out.loss.requires_grad
    assert not out.chosen_reward.requires_grad and not out.rejected_reward.requires_grad


def test_its_gradient_is_the_derivative_of_its_value(objective):
    logps = pairs(dtype=torch.float64)
    lengths = (logps.chosen_length, logps.rejected_length)
    reference = (logps.reference_chosen, logps.reference_rejected)

    def loss(chosen, rejected):
        return objective(PairLogps(chosen, rejected, *reference, *lengths)).loss

    inputs = (logps.policy_chosen.requires_grad_(), logps.policy_rejected.requires_grad_())
    assert gradcheck(loss, inputs, eps=1e-6, atol=1e-7)


def test_no_gradient_reaches_the_reference(objective):
    logps = pairs(grad=True)
    reference = logps.reference_chosen.clone().requires_grad_()
    objective(replaced(logps, reference_chosen=reference)).loss.sum().backward()
    assert reference.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gap", [1e4, -1e4])
def test_huge_gaps_stay_finite_in_value_and_gradient(objective, gap, dtype):
    zero = torch.zeros(3, dtype=dtype)
    chosen = torch.full((3,), gap, dtype=dtype).requires_grad_()
    length = torch.full((3,), 7)
    out = objective(PairLogps(chosen, zero, zero, zero, length, length))
    out.loss.sum().backward()
    assert out.loss.isfinite().all() and chosen.grad.isfinite().all()


def test_a_batch_is_the_mean_of_its_halves(objective):
    whole = pairs(8)
    halves = [
        replaced(
            whole,
            **{f.name: getattr(whole, f.name)[s] for f in fields(whole) if f.name != "extras"},
        )
        for s in (slice(0, 4), slice(4, 8))
    ]
    parts = torch.cat([objective(half).loss for half in halves])
    assert torch.equal(objective(whole).loss, parts)


def test_inputs_are_left_as_they_were(objective):
    logps = pairs()
    before = {f.name: getattr(logps, f.name).clone() for f in fields(logps) if f.name != "extras"}
    objective(logps)
    assert all(torch.equal(getattr(logps, name), value) for name, value in before.items())


def test_it_needs_the_reference_exactly_when_it_says_so(objective):
    logps = pairs()
    moved = replaced(logps, reference_chosen=logps.reference_chosen + 3.0)
    depends = not torch.equal(objective(logps).loss, objective(moved).loss)
    assert depends == objective.needs_reference


def test_it_depends_on_lengths_exactly_when_it_says_so(objective):
    logps = pairs()
    longer = replaced(logps, chosen_length=logps.chosen_length * 2)
    depends = not torch.equal(objective(logps).loss, objective(longer).loss)
    assert depends == objective.length_normalised


def test_raising_the_chosen_response_lowers_the_loss_near_the_reference(objective):
    zero, length = torch.zeros(1), torch.full((1,), 4)
    chosen = torch.zeros(1, requires_grad=True)
    objective(PairLogps(chosen, zero, zero, zero, length, length)).loss.sum().backward()
    assert chosen.grad.item() < 0


def test_it_learns_a_world_of_three_answers(objective):
    # Answers 0 > 1 > 2 by preference; a softmax over three logits must come to rank them so.
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=0.5)
    chosen, rejected = torch.tensor([0, 1, 0]), torch.tensor([1, 2, 2])
    uniform = torch.full((3,), -math.log(3))
    length = torch.ones(3, dtype=torch.long)
    for _ in range(50):
        logps = logits.log_softmax(0)
        values = PairLogps(logps[chosen], logps[rejected], uniform, uniform, length, length)
        optimizer.zero_grad()
        objective(values).loss.mean().backward()
        optimizer.step()
    assert logits[0] > logits[1] + 0.1 > logits[2] + 0.2


def test_shapes_that_differ_are_refused_with_both_printed():
    good = torch.zeros(3)
    with pytest.raises(ValueError, match=r"reference_rejected has shape \[2\].*\[3\]"):
        PairLogps(good, good, good, torch.zeros(2), good, good)
    with pytest.raises(ValueError, match=r"\[3, 2\].*one sum per pair"):
        PairLogps(*[torch.zeros(3, 2)] * 6)
