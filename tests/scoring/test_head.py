"""Log-probs that go through the vocabulary piece by piece."""

import pytest
import torch
from heads import HEADS, STATES, TARGETS, draw
from torch import nn

from fastslow.scoring import token_logps
from fastslow.scoring.lm_head import Head, chunked_logps


@pytest.mark.parametrize("rows", [3, 100])
@pytest.mark.parametrize("columns", [1, 10, 100])
@pytest.mark.parametrize("kind", HEADS)
def test_pieces_are_the_log_softmax_of_all_and_so_is_their_gradient(kind, columns, rows):
    head, weight = HEADS[kind], draw(len(TARGETS), seed=4)
    found = []
    for through in (
        lambda states: chunked_logps(head, states, TARGETS, rows=rows, columns=columns),
        lambda states: head.logits(states).log_softmax(-1)[torch.arange(len(TARGETS)), TARGETS],
    ):
        states = STATES.clone().requires_grad_()
        logps = through(states)
        (gradient,) = torch.autograd.grad((logps * weight).sum(), states)
        found.append((logps.detach(), gradient))
    torch.testing.assert_close(*(logps for logps, _ in found), atol=1e-12, rtol=0)
    torch.testing.assert_close(*(gradient for _, gradient in found), atol=1e-11, rtol=0)


def test_gradcheck():
    head = HEADS["capped"]
    states = STATES.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda h: chunked_logps(head, h, TARGETS, rows=4, columns=9), states
    )


def test_without_a_gradient_the_numbers_are_the_same():
    head = HEADS["capped"]
    learned = chunked_logps(head, STATES.clone().requires_grad_(), TARGETS, rows=4, columns=9)
    assert torch.equal(learned, chunked_logps(head, STATES, TARGETS, rows=4, columns=9))


def test_huge_logits_and_tokens_that_cannot_be_said():
    linear = nn.Linear(1, 6, dtype=torch.float64).requires_grad_(False)
    linear.weight.copy_(torch.tensor([[-1e4], [0.0], [1e4], [1e4], [3.0], [5.0]]))
    linear.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, -torch.inf, -torch.inf]))
    states = torch.ones(4, 1, dtype=torch.float64, requires_grad=True)
    head = Head(linear, lambda logits: logits)
    for columns in (1, 2, 6):
        found = chunked_logps(head, states, torch.tensor([0, 1, 2, 4]), rows=9, columns=columns)
        half = torch.tensor(0.5).log().item()
        assert found.tolist() == pytest.approx([-2e4 + half, -1e4 + half, half, -torch.inf])
        (gradient,) = torch.autograd.grad(found[:3].sum(), states)
        assert gradient.flatten().tolist() == pytest.approx([-2e4, -1e4, 0.0, 0.0])


def test_bfloat16_is_added_up_in_float32():
    linear = nn.Linear(16, 4000, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    states = draw(5, 16).to(torch.bfloat16).requires_grad_()
    targets = torch.arange(5)
    found = chunked_logps(Head(linear, lambda logits: logits), states, targets, rows=9, columns=128)
    assert found.dtype == torch.float32
    expected = token_logps(linear(states), targets)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    found.sum().backward()
    assert states.grad.dtype == torch.bfloat16
    exact = states.detach().double().requires_grad_()
    (exact @ linear.weight.double().T).log_softmax(-1)[torch.arange(5), targets].sum().backward()
    torch.testing.assert_close(states.grad.double(), exact.grad, atol=1e-2, rtol=0.02)


def test_token_logps_are_log_softmax_also_for_huge_logits():
    logits = torch.tensor([[1e4, 0.0, -1e4]], dtype=torch.bfloat16)
    got = token_logps(logits, torch.tensor([1]))
    assert got.dtype == torch.float32 and got.item() == pytest.approx(-1e4, rel=1e-2)
    exact = draw(7, 11)
    targets = torch.arange(7)
    expected = exact.log_softmax(-1)[torch.arange(7), targets]
    torch.testing.assert_close(token_logps(exact, targets), expected)
