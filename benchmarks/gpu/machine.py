"""The card, what is installed, and how much a large product does."""

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
"""Dense products in bfloat16, operations a second, as the maker gives them; the first that fits."""
LIBRARIES = ("torch", "transformers", "peft", "trl", "liger-kernel", "flash-attn", "triton")
GIB = 2**30


def measure(setting: Setting) -> dict[str, Any]:
    """What all other results depend on."""
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
    """Of the card, or of the processor where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()


def peak(device: str) -> float | None:
    """The maker's operations a second of a card; None if it is not listed."""
    return next((number for name, number in PEAKS.items() if name in device), None)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
