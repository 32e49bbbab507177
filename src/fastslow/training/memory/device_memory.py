"""Free memory, and the peak memory of this process."""

import ctypes
import re
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch

M_MMAP_THRESHOLD = -3
"""Option of mallopt(3): allocations from this size on use mmap."""
CONTAINER = Path("/sys/fs/cgroup")
"""Where Linux publishes the memory limit of a container."""
OWN_STATUS = Path("/proc/self/status")


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still allocate on a device; None if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    free = int(psutil.virtual_memory().available)
    limit, used = (_number_in(CONTAINER / name) for name in ("memory.max", "memory.current"))
    return free if limit is None or used is None else min(free, max(0, limit - used))


def return_memory_at_once() -> None:
    """Let glibc return the memory of every tensor above 1 MiB when it is freed.

    Otherwise it stays in holes between smaller tensors, where the next ones may not fit, which
    costs half of the savings of activation checkpointing. The price is page faults: steps with
    checkpointing take 1.8 times as long, without this setting 1.2 times. Other allocators are not
    changed.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, 1 << 20)


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has held on a device so far."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "linux":  # getrusage also counts what the parent held before.
        (held,) = re.findall(r"VmHWM:\s+(\d+) kB", OWN_STATUS.read_text())
        return int(held) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # Bytes on a Mac, KiB elsewhere.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _number_in(file: Path) -> int | None:
    """The number in a control group's file; None if there is no such file or no limit."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
