"""The minimum arithmetic of a step, and the machine's best speed."""

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.speed.pairs import Chosen


def unavoidable(
    config: Any, chosen: Chosen, *, modules: int, rank: int, reference: bool = True
) -> float:
    """Minimum floating-point operations of one pass over the pairs.

    Per tree, with the prompt once: a forward pass of the reference unless its scores are known, and
    for every module a forward pass and the gradients of activations and LoRA weights, but none of
    frozen weights or below the first layer. Attention counts visible positions only; the head
    counts response tokens only, its product once for the log-probs and once for their gradient.
    """
    hidden, layers = config.hidden_size, config.num_hidden_layers
    wide = _head_size(config) * config.num_attention_heads
    dense = 2 * sum(a * b for a, b in _sides(config))
    lora = 2 * rank * sum(a + b for a, b in _sides(config))
    total = 0.0
    for prompt, responses in zip(chosen.prompt_tokens, chosen.response_tokens, strict=True):
        tokens, response_tokens = prompt + sum(responses), sum(responses)
        visible = prompt * (prompt + 1) / 2 + sum(r * prompt + r * (r + 1) / 2 for r in responses)
        attention = 4 * layers * wide * visible
        head = 2 * hidden * config.vocab_size * response_tokens
        forward = tokens * dense + attention + head
        module = tokens * (2 * dense + 3 * lora) + 3 * attention + 2 * head
        total += reference * forward + modules * module
    return total


def _sides(config: Any) -> list[tuple[int, int]]:
    """Sides of every matrix in all layers."""
    hidden, inner = config.hidden_size, config.intermediate_size
    wide, narrow = (
        _head_size(config) * heads
        for heads in (config.num_attention_heads, config.num_key_value_heads)
    )
    sides = [(hidden, wide), (hidden, narrow), (hidden, narrow), (wide, hidden),
             (hidden, inner), (hidden, inner), (inner, hidden)]  # fmt: skip
    return sides * int(config.num_hidden_layers)


def _head_size(config: Any) -> int:
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(size)


def matmul_peak(
    config: Any,
    *,
    dtype: torch.dtype,
    rows: int = 2048,
    seconds: float = 1.5,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Operations per second of the model's own matrix products, the best of several tries."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    times = 100 if device == "cuda" else 4  # On a GPU, synchronising takes as long as a few.
    x = torch.randn(rows, config.hidden_size, device=device).to(dtype)
    weight = torch.randn(config.intermediate_size, config.hidden_size, device=device).to(dtype)
    out = torch.empty(rows, config.intermediate_size, device=device, dtype=dtype)
    best, end = 0.0, clock() + seconds
    while clock() < end:
        began = clock()
        for _ in range(times):
            torch.mm(x, weight.T, out=out)
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, times * 2 * x.numel() * len(weight) / (clock() - began))
    return best


def decoding_floor(
    config: Any,
    prompts: list[int],
    *,
    answers: int,
    new: int,
    dtype: torch.dtype,
    clock: Callable[[], float],
) -> dict[str, float]:
    """Minimum seconds, by the clock, to answer prompts of given lengths with `answers` times `new`
    tokens each.

    Every prompt is read once, at the best speed of products. In every decoding step the products
    take the longer of two times, that of their operations and that of reading the weights; keys and
    values are read once: a prompt's for all its answers, an answer's own for itself.
    """
    rows, head = answers * len(prompts), config.hidden_size * config.vocab_size
    dense = sum(a * b for a, b in _sides(config))
    per_token = 2 * config.num_hidden_layers * _head_size(config) * config.num_key_value_heads
    values_read = per_token * (sum(prompts) * (new - 1) + rows * new * (new - 1) / 2)
    prefill_peak, decode_peak = (
        matmul_peak(config, dtype=dtype, rows=count, clock=clock) for count in (2048, rows)
    )
    bandwidth = read_bandwidth(clock)
    weights = max(
        2 * rows * (dense + head) / decode_peak, (dense + head) * dtype.itemsize / bandwidth
    )
    return {
        "prompts": 2 * (sum(prompts) * dense + len(prompts) * head) / prefill_peak,
        "products": (new - 1) * weights,
        "keys and values": values_read * dtype.itemsize / bandwidth,
    }


def read_bandwidth(clock: Callable[[], float], *, mebibytes: int = 256, times: int = 5) -> float:
    """Best memory read bandwidth, bytes per second."""
    values = torch.ones(mebibytes * 2**18)
    best = 0.0
    for _ in range(times):
        began = clock()
        values.sum()
        best = max(best, values.nbytes / (clock() - began))
    return best
