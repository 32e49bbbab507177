"""The GPU, installed libraries, and the speed of a large matrix product."""

import importlib.metadata
import platform
from typing import Any

import torch

from benchmarks.gpu.clock import square_peak
from benchmarks.gpu.setting import Setting

PEAKS = {
    "B200": 2250e12,
    "H200": 989.5e12,
    "H100 PCIe": 756e12,
    "H100": 989.5e12,
    "L40S": 362e12,
    "A100": 312e12,
}
"""Dense bfloat16 products, operations per second, by the vendor; the first match counts."""
LIBRARIES = ("torch", "transformers", "peft", "trl", "liger-kernel", "flash-attn", "triton")
GIB = 2**30


def measure(setting: Setting) -> dict[str, Any]:
    """What all other results depend on: device, versions, speed."""
    cuda = torch.cuda.is_available()
    memory = torch.cuda.get_device_properties(0).total_memory / GIB if cuda else None
    return {
        "device": device_name(),
        "GiB": memory,
        "precision": setting.precision,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in LIBRARIES},
        "peak": peak(device_name()),
        "peak of a square product": square_peak(8192 if cuda else 512, setting.dtype),
    }


def device_name() -> str:
    """Name of the GPU, or of the CPU's architecture without one."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()


def peak(device: str) -> float | None:
    """The vendor's peak of a GPU, operations per second; None if it is not listed."""
    return next((number for name, number in PEAKS.items() if name in device), None)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
