"""Time of a pass by how its row is cut into attention calls and the head into blocks."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.clock import seconds
from benchmarks.gpu.setting import Setting, trees_of
from fastslow.adapters import Modules, load_base
from fastslow.scoring import Scorer, Sizes, Tree, tree_batch
from fastslow.scoring.attention import tree_attention
from fastslow.scoring.attention_segments import cut
from fastslow.scoring.ragged import Ragged

TOGETHER = (0, 2048)
HEADS = ((2048, 8192), (2048, 32_768), (8192, 32_768))
"""Rows, columns."""
USUAL = Sizes(together=2048, columns=32_768, ragged=True)


def measure(setting: Setting, shape: str, length: int) -> dict[str, Any]:
    """Milliseconds of a pass, with and without its backward pass, by sizes; and of one layer."""
    trees = trees_of(setting.pairs(shape, length))
    base = load_base(str(setting.model(shape)), precision=setting.precision, device=setting.device)
    modules = Modules.attach(base, ("fast",), rank=16, alpha=32)
    together = {
        f"together {size}": _pass(modules, trees, Sizes(together=size, columns=USUAL.columns))
        for size in TOGETHER
    }
    heads = {
        f"one call, head {rows} x {columns}": _pass(
            modules, trees, replace(USUAL, columns=columns, rows=rows)
        )
        for rows, columns in HEADS
    }
    return {
        "tokens": sum(tree.num_tokens for tree in trees),
        "passes": together | heads,
        "one layer": _layer(base.config, trees, setting),
        "ragged": _off(setting),
    }


def _pass(modules: Modules, trees: list[Tree], sizes: Sizes) -> dict[str, float | str]:
    model = modules.causal_lm
    scorer = Scorer(model, sizes=sizes)
    batch = tree_batch(trees, pad_id=0).to(model.device)

    def score(learning: bool) -> None:
        autocast = torch.autocast(
            model.device.type, dtype=torch.bfloat16, enabled=model.dtype == torch.bfloat16
        )
        with modules.using("fast"), autocast, torch.set_grad_enabled(learning):
            scores = scorer.score(batch)
        if learning:
            scores.sum().backward()

    return _timed({"ms": partial(score, False), "ms learning": partial(score, True)})


def _layer(config: Any, trees: list[Tree], setting: Setting) -> dict[str, dict[str, float | str]]:
    """Attention alone, forward and with gradients, in several ways."""
    batch = tree_batch(trees, pad_id=0)
    count, size = batch.input_ids.shape[1], config.hidden_size // config.num_attention_heads
    heads = config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads
    states = [
        torch.randn(1, num_heads, count, size, device=setting.device, dtype=setting.dtype)
        .requires_grad_()
        for num_heads in heads
    ]  # fmt: skip
    ways: dict[str, Callable[..., Tensor]] = {
        f"together {size}": partial(_in_pieces, batch.attended, size) for size in TOGETHER
    }
    if setting.device.type == "cuda":
        for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
            ways[backend.name.lower()] = partial(_masked_by, backend, batch.attended)
        ways["ragged"] = partial(_in_one_call, Ragged(batch.attended))
    return {name: _timed(_both(way, states)) for name, way in ways.items()}


def _both(way: Callable[..., Tensor], states: list[Tensor]) -> dict[str, Callable[[], None]]:
    def learning() -> None:
        torch.autograd.grad(way(*states).sum(), states)

    return {"ms": torch.no_grad()(partial(way, *states)), "ms learning": learning}


def _in_pieces(trees: Any, together: int, *states: Tensor) -> Tensor:
    return tree_attention(None, *states, None, pieces=cut(trees, together=together))[0]


def _in_one_call(ragged: Ragged, *states: Tensor) -> Tensor:
    return tree_attention(None, *states, None, pieces=(), ragged=ragged)[0]


def _masked_by(backend: SDPBackend, trees: Any, *states: Tensor) -> Tensor:
    with sdpa_kernel(backend):
        return _in_pieces(trees, 2048, *states)


def _off(setting: Setting) -> float | str:
    """Largest difference between one call and attention in pieces, in bfloat16."""
    trees = [Tree((1,) * 70, ((2,) * 30, (3,) * 50)), Tree((1,) * 9, ((2,) * 130, (3,) * 5))]
    draw = torch.Generator().manual_seed(0)
    count = sum(tree.num_tokens for tree in trees)
    states = [
        torch.randn(1, heads, count, 64, generator=draw).to(setting.device, torch.bfloat16)
        for heads in (8, 2, 2)
    ]
    ragged = Ragged(trees)
    if not ragged.takes(states[0]):
        return "no kernel"
    return (_in_one_call(ragged, *states) - _in_pieces(trees, 0, *states)).abs().max().item()


def _timed(calls: dict[str, Callable[[], Any]]) -> dict[str, float | str]:
    times: dict[str, float | str] = {}
    for name, call in calls.items():
        try:
            times[f"{name}, first"] = 1e3 * seconds(call, times=1, warm=0)
            times[name] = 1e3 * seconds(call)
        except RuntimeError as error:  # Unsupported by the kernel, or out of memory.
            times[name] = str(error).splitlines()[0][:120]
    return times
