"""How a segment of a row attends in bfloat16 on a CPU."""

import pytest
import torch

from fastslow.scoring import Tree
from fastslow.scoring.attention import SHORT, tree_attention
from fastslow.scoring.attention_segments import cut


def attended(states, trees):
    query, key, value = states
    found, _ = tree_attention(None, query, key, value, None, pieces=cut(trees, together=0))
    return found


@pytest.mark.parametrize("autocast", [False, True])
def test_short_segments_are_as_exact_as_in_float32(autocast):
    trees = [Tree((1,) * 30, ((2,) * 40, (3,) * 21)), Tree((1,) * 9, ((2,) * 60,))]
    tokens = sum(tree.num_tokens for tree in trees)
    torch.manual_seed(0)
    states = [torch.randn(1, 4, tokens, 64).bfloat16().requires_grad_() for _ in range(3)]
    wide = [own.detach().float().requires_grad_() for own in states]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found = attended(states, trees)
    expected = attended(wide, trees)
    assert torch.equal(found, expected.bfloat16())
    slope = torch.randn_like(expected).bfloat16()
    found.backward(slope)
    expected.backward(slope.float())
    for own, of_wide in zip(states, wide, strict=True):
        assert own.grad.dtype == torch.bfloat16
        assert torch.allclose(own.grad.float(), of_wide.grad, rtol=2e-2, atol=2e-2)


def test_long_segments_have_their_own_kernel():
    count = SHORT + 1
    states = [torch.randn(1, 2, count, 64).bfloat16() for _ in range(3)]
    (piece,) = cut([Tree((1,) * count, ())], together=0)
    own = torch.nn.functional.scaled_dot_product_attention(*states, is_causal=piece.causal)
    assert torch.equal(attended(states, [Tree((1,) * count, ())]), own.transpose(1, 2))
