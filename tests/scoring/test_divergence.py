"""The KL between two policies' predictions: in blocks as of whole logits, and of whole policies."""

import pytest
import tiny
import torch
from heads import HEADS, STATES, draw
from torch import nn

from fastslow.scoring import Layout, Scorer, Tree, tree_batch
from fastslow.scoring.divergence import chunked_kl, prediction_kl
from fastslow.scoring.lm_head import Head

GIVEN = draw(*STATES.shape, seed=9)
TREES = [Tree((5, 6, 7), ((8, 9), (10,))), Tree((5, 11), ((12, 13, 14), (9, 8, 7, 6)))]


@pytest.mark.parametrize("rows", [3, 100])
@pytest.mark.parametrize("columns", [1, 10, 100])
@pytest.mark.parametrize("kind", HEADS)
def test_blocks_are_the_kl_of_all_and_so_is_its_gradient(kind, columns, rows):
    head, weight = HEADS[kind], draw(len(STATES), seed=4)
    found = []
    for through in (
        lambda states: chunked_kl(head, GIVEN, states, rows=rows, columns=columns),
        lambda states: torch.nn.functional.kl_div(
            head.logits(states).log_softmax(-1),
            head.logits(GIVEN).log_softmax(-1),
            log_target=True,
            reduction="none",
        ).sum(-1),
    ):
        states = STATES.clone().requires_grad_()
        kl = through(states)
        (gradient,) = torch.autograd.grad((kl * weight).sum(), states)
        found.append((kl.detach(), gradient))
    torch.testing.assert_close(*(kl for kl, _ in found), atol=1e-12, rtol=0)
    torch.testing.assert_close(*(gradient for _, gradient in found), atol=1e-11, rtol=0)
    assert torch.equal(found[0][0], chunked_kl(head, GIVEN, STATES, rows=rows, columns=columns))


def test_gradcheck():
    states = STATES.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda h: chunked_kl(HEADS["capped"], GIVEN, h, rows=4, columns=9), states
    )


def test_by_hand():
    # Logits 0 and log 3 against 0 and 0: p = 1/4, 3/4 and q = 1/2, 1/2.
    linear = nn.Linear(1, 2, bias=False, dtype=torch.float64).requires_grad_(False)
    linear.weight.copy_(torch.tensor([[0.0], [1.0]]))
    teacher = torch.tensor([[3.0]], dtype=torch.float64).log()
    student = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    kl = chunked_kl(Head(linear, lambda logits: logits), teacher, student, rows=1, columns=1)
    p = torch.tensor([0.25, 0.75], dtype=torch.float64)
    assert kl.item() == pytest.approx((p * (2 * p).log()).sum().item())
    kl.backward()
    assert student.grad.item() == pytest.approx(0.5 - 0.75)


def test_the_same_predictions_are_no_distance_apart_and_at_a_minimum():
    states = STATES.clone().requires_grad_()
    kl = chunked_kl(HEADS["with a bias"], STATES, states, rows=4, columns=9)
    kl.sum().backward()
    assert kl.abs().max() < 1e-12 and states.grad.abs().max() < 1e-12


def test_tokens_that_neither_can_say():
    linear = nn.Linear(2, 5, dtype=torch.float64).requires_grad_(False)
    linear.bias[3:] = -torch.inf
    head, sizes = Head(linear, lambda logits: logits), {"rows": 9, "columns": 2}
    student = draw(4, 2, seed=1).requires_grad_()
    found = chunked_kl(head, draw(4, 2), student, **sizes)
    short = nn.Linear(2, 3, dtype=torch.float64)
    short.weight.data, short.bias.data = linear.weight[:3], linear.bias[:3]
    torch.testing.assert_close(found, prediction_kl(short(draw(4, 2)), short(student)))
    assert prediction_kl(linear(draw(4, 2)), linear(student)).tolist() == pytest.approx(
        found.tolist()
    )
    found.sum().backward()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("trees", [True, False])
def test_of_two_models_it_is_that_of_their_dense_predictions(trees):
    teacher, student = tiny.model(seed=0), tiny.model(seed=1)
    # One output layer, as two policies on one base have it.
    student.lm_head.weight.data.copy_(teacher.lm_head.weight)
    student.model.norm.weight.requires_grad_()
    batch = tree_batch(TREES, pad_id=0)
    layout = Layout(trees=trees)
    with torch.no_grad():
        given = Scorer(teacher, layout).predictions(batch)
    scorer = Scorer(student, layout)
    found = scorer.kl(batch, given, scorer.predictions(batch))
    expected = []
    for tree in TREES:
        for response in tree.responses:
            ids = torch.tensor([[*tree.prompt, *response]])
            p, q = (
                model(input_ids=ids).logits[0, len(tree.prompt) - 1 : -1].double().log_softmax(-1)
                for model in (teacher, student)
            )
            expected.append((p.exp() * (p - q)).sum())
    torch.testing.assert_close(found.double(), torch.stack(expected), atol=1e-4, rtol=1e-4)
    of_blocks = torch.autograd.grad(found.sum(), student.model.norm.weight)[0]
    of_all = torch.autograd.grad(torch.stack(expected).sum(), student.model.norm.weight)[0]
    torch.testing.assert_close(of_blocks, of_all, atol=1e-3, rtol=1e-3)
