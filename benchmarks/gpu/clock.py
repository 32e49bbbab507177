"""Timing on the device, and its speed in a matrix product."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch


def seconds(call: Callable[[], Any], *, times: int = 5, warm: int = 2) -> float:
    """Median time of a call, after warm-up calls, including synchronisation with the device."""
    durations = []
    for number in range(warm + times):
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number >= warm:
            durations.append(time.perf_counter() - began)
    return median(durations)


def square_peak(size: int, dtype: torch.dtype) -> float:
    """Operations per second of a large product of square matrices."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    def ten() -> None:
        for _ in range(10):
            torch.mm(a, b, out=out)

    return 10 * 2 * size**3 / seconds(ten)
