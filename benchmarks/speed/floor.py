"""The arithmetic that a step cannot avoid, and how much the machine does at best."""

import time
from typing import Any

import torch

from benchmarks.speed.pairs import Chosen


def unavoidable(
    config: Any, chosen: Chosen, *, modules: int, rank: int, reference: bool = True
) -> float:
    """Floating-point operations that one pass over the pairs needs at the least.

    Per tree, the prompt once: a forward pass of the reference unless it is known, and of every
    module a forward pass and the gradients of activations and of LoRA weights; no gradients of
    frozen weights, and none below the first layer. Attention counts what may be seen only; the head
    counts response tokens only, its product once for the log-probs and once for their slope.
    """
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    head_size = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    wide, narrow = head_size * config.num_attention_heads, head_size * config.num_key_value_heads
    sides = [(hidden, wide), (hidden, narrow), (hidden, narrow), (wide, hidden),
             (hidden, inner), (hidden, inner), (inner, hidden)]  # fmt: skip
    dense = 2 * layers * sum(a * b for a, b in sides)
    lora = 2 * layers * rank * sum(a + b for a, b in sides)
    total = 0.0
    for prompt, responses in zip(chosen.prompt_tokens, chosen.response_tokens, strict=True):
        tokens, said = prompt + sum(responses), sum(responses)
        seen = prompt * (prompt + 1) / 2 + sum(r * prompt + r * (r + 1) / 2 for r in responses)
        attention = 4 * layers * wide * seen
        head = 2 * hidden * config.vocab_size * said
        forward = tokens * dense + attention + head
        module = tokens * (2 * dense + 3 * lora) + 3 * attention + 2 * head
        total += reference * forward + modules * module
    return total


def matmul_peak(
    config: Any, *, dtype: torch.dtype, rows: int = 2048, seconds: float = 1.5
) -> float:
    """Operations a second of the model's own matrix products, the best of several tries."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    times = 100 if device == "cuda" else 4  # Of a GPU, as waiting for it takes as long as a few.
    x = torch.randn(rows, config.hidden_size, device=device).to(dtype)
    weight = torch.randn(config.intermediate_size, config.hidden_size, device=device).to(dtype)
    out = torch.empty(rows, config.intermediate_size, device=device, dtype=dtype)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        for _ in range(times):
            torch.mm(x, weight.T, out=out)
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, times * 2 * x.numel() * len(weight) / (time.perf_counter() - began))
    return best
