"""A row of trees in one call of the kernel for sequences of many lengths.

Without a GPU a stand-in does what the kernel's documentation says it does.
"""

from functools import partial

import pytest
import tiny
import torch
from torch.nn.functional import scaled_dot_product_attention

from fastslow.scoring import Scorer, Sizes, Tree, ragged, tree_batch
from fastslow.scoring.attention import tree_attention
from fastslow.scoring.attention_segments import cut
from fastslow.scoring.ragged import Ragged

TREES = (Tree((5, 6), ((7, 8), (9, 3, 2), (4,))), Tree((4,), ((3,),)), Tree((1, 2), ()))
CUDA = torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED: no GPU")


def stand_in(query, key, value, queries, keys, most_queries, most_keys, drop, causal, _, *, scale):
    """Every sequence alone; a query sees the keys up to its own distance from the end."""
    assert causal and drop == 0
    lengths = queries.diff().tolist(), keys.diff().tolist()
    assert (most_queries, most_keys) == tuple(map(max, lengths))
    found = []
    for q, k, v in zip(
        query.split(lengths[0]), key.split(lengths[1]), value.split(lengths[1]), strict=True
    ):
        seen = torch.ones(len(q), len(k), dtype=torch.bool).tril(len(k) - len(q))
        q, k, v = (states.transpose(0, 1) for states in (q, k, v))
        own = scaled_dot_product_attention(
            q[None], k[None], v[None], attn_mask=seen, scale=scale, enable_gqa=True
        )
        found.append(own[0].transpose(0, 1))
    return torch.cat(found), None


@pytest.fixture
def on_a_cpu(monkeypatch):
    monkeypatch.setattr(ragged, "KERNEL", stand_in)
    monkeypatch.setattr(Ragged, "takes", lambda own, query: True)


def attended_and_slopes(states, **how):
    found, _ = tree_attention(None, *states, None, **how)
    weight = torch.linspace(-1, 1, found.numel(), device=found.device, dtype=found.dtype)
    return found, torch.autograd.grad((found * weight.view(found.shape)).sum(), states)


def drawn_states(count):
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(1, heads, count, 8, dtype=torch.float64, generator=draw).requires_grad_()
            for heads in (4, 2, 2)]  # fmt: skip


@pytest.mark.parametrize("scaling", [None, 0.3])
def test_one_call_is_what_the_pieces_are(on_a_cpu, scaling):
    states = drawn_states(sum(tree.num_tokens for tree in TREES))
    whole, slopes = attended_and_slopes(states, pieces=(), ragged=Ragged(TREES), scaling=scaling)
    cut_up, expected = attended_and_slopes(states, pieces=cut(TREES, together=0), scaling=scaling)
    torch.testing.assert_close(whole, cut_up, atol=1e-12, rtol=0)
    torch.testing.assert_close(slopes, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("architecture", [a for a in tiny.ARCHITECTURES if a != "gemma2"])
def test_models_score_as_in_pieces(on_a_cpu, architecture):
    model = tiny.model(architecture).double()
    batch = tree_batch(TREES[:2], pad_id=0)
    scores = [
        Scorer(model, sizes=Sizes(together=0, columns=100, ragged=one)).score(batch)
        for one in (False, True)
    ]
    torch.testing.assert_close(*scores, atol=1e-5, rtol=0)


def test_a_bound_on_the_products_is_no_matter_of_the_kernel(on_a_cpu, monkeypatch):
    monkeypatch.setattr(ragged, "KERNEL", None)
    states = drawn_states(sum(tree.num_tokens for tree in TREES))
    how = {"pieces": cut(TREES, together=0), "softcap": 20.0}
    torch.testing.assert_close(
        attended_and_slopes(states, **how),
        attended_and_slopes(states, **how, ragged=Ragged(TREES)),
        atol=0,
        rtol=0,
    )


def test_what_the_kernel_takes(monkeypatch):
    made = partial(torch.empty, 1, 2, 3)
    monkeypatch.setattr(ragged, "_has_kernel", lambda device: True)
    row = Ragged(TREES)
    assert not row.takes(made(64, dtype=torch.bfloat16))  # A processor's.
    for dtype, width, taken in (
        (torch.bfloat16, 64, True),
        (torch.float16, 256, True),
        (torch.float32, 64, False),
        (torch.bfloat16, 264, False),
        (torch.bfloat16, 12, False),
    ):

        class Query:
            device, shape = CUDA, (1, 2, 3, width)

        Query.dtype = dtype
        assert row.takes(Query()) == taken


@needs_gpu
def test_the_kernel_on_a_gpu():
    trees = [Tree((1,) * 70, ((2,) * 30, (3,) * 50)), Tree((1,) * 9, ((2,) * 130, (3,) * 5))]
    count = sum(tree.num_tokens for tree in trees)
    states = [torch.randn(1, heads, count, 64).to(CUDA, torch.bfloat16).requires_grad_()
              for heads in (8, 2, 2)]  # fmt: skip
    exact = [own.detach().double().cpu().requires_grad_() for own in states]
    whole, slopes = attended_and_slopes(states, pieces=(), ragged=Ragged(trees))
    expected, wanted = attended_and_slopes(exact, pieces=cut(trees, together=0))
    for found, own in zip((whole, *slopes), (expected, *wanted), strict=True):
        assert (found.double().cpu() - own).norm() < 0.01 * own.norm()
