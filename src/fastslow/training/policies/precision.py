"""Which precision a run computes in, where the recipe leaves it to the device."""

import torch

from fastslow.config import TrainConfig

IN_HARDWARE = "avx512_bf16", "amx_bf16"
"""Instructions with which a CPU multiplies in bfloat16. Without them torch converts every number,
which takes 4 times as long as float32 on AVX2."""


def in_bfloat16(train: TrainConfig, device: torch.device) -> bool:
    """Whether a run's passes compute in bfloat16. `auto` depends on what the device is, not on a
    measurement, so that a run resumes as it began."""
    if train.precision != "auto":
        return train.precision != "float32"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # An older torch.
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in IN_HARDWARE)
