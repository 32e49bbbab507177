"""Time breakdown of a step on a device: kinds of kernels, launches, waiting, Python."""

import cProfile
import pstats
import shutil
from collections import Counter
from collections.abc import Iterable
from statistics import median
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import fastslow
from benchmarks.gpu.setting import Setting
from benchmarks.speed.ours import raw_recipe
from fastslow.config import load_recipe

KINDS = {
    "attention": ("flash", "fmha", "attention", "cudnn_generated"),
    "products": ("gemm", "nvjet", "cutlass", "xmma", "gemv", "splitk", "dot_kernel"),
    "copies and casts": ("memcpy", "memset", "copy", "catarray", "index", "gather", "fillfunctor"),
    "optimisers": ("multi_tensor",),
    "sums and softmax": ("reduce", "softmax", "scan"),
    "elementwise": ("elementwise", "vectorized", "triton"),
}
"""Kinds of kernels, by parts of their names in lower case; the first match counts."""
WARM, STEPS = 4, 3
LISTED = 30


def measure(setting: Setting, shape: str, length: int, method: str) -> dict[str, Any]:
    """Milliseconds of a step by kinds of kernels, and the slowest operators.

    A trace of the steps is written to the folder of the results, for a trace viewer.
    """
    settings = setting.run(shape, length, method, max_steps=WARM + 2 * STEPS)
    recorder, host, paces = _recorder(), cProfile.Profile(), []

    def hear(event: dict[str, Any]) -> None:
        if event["event"] != "step":
            return
        step = event["step"]
        if 2 < step <= WARM:
            paces.append(1e3 * settings["batch_size"] / event["pairs_per_s"])
        if step == WARM:
            _wait()
            recorder.start()
        if step == WARM + STEPS:
            _wait()
            recorder.stop()
            host.enable()
        if step == WARM + 2 * STEPS:
            host.disable()

    shutil.rmtree(settings["out"], ignore_errors=True)
    fastslow.train(load_recipe(raw_recipe(settings), []), listener=hear)
    trace = setting.out / f"trace-{shape}-{method}.json.gz"
    recorder.export_chrome_trace(str(trace))
    kernels = [
        event
        for event in recorder.events()
        if event.device_type == DeviceType.CUDA and not event.name.startswith("Optimizer.step")
    ]
    step = median(paces)
    return {
        "step ms": step,
        "trace": trace.name,
        **_device(kernels, step),
        "waits": _count(recorder.events(), ("Synchronize",)),
        "operators": _operators(recorder),
        "python": _python(host),
    }


def _recorder() -> profile:
    kinds = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        kinds.append(ProfilerActivity.CUDA)
    return profile(activities=kinds, record_shapes=True)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _device(kernels: list[Any], step: float) -> dict[str, Any]:
    """What the device does in a step. Idle time is relative to a step without the profiler, as
    profiling slows launches down."""
    spent: Counter[str] = Counter()
    names: Counter[str] = Counter()
    for kernel in kernels:
        took = (kernel.time_range.end - kernel.time_range.start) / 1e3 / STEPS
        spent[_kind(kernel.name)] += took
        names[kernel.name[:90]] += took
    busy = _union((kernel.time_range.start, kernel.time_range.end) for kernel in kernels)
    busy /= 1e3 * STEPS
    return {
        "busy ms": busy,
        "idle share": max(0.0, 1 - busy / step),
        "kernels": len(kernels) / STEPS,
        "kinds ms": {kind: round(took, 3) for kind, took in spent.most_common()},
        "kernels ms": {name: round(took, 3) for name, took in names.most_common(LISTED)},
        "to the processor": _count(kernels, ("Memcpy DtoH",)),
    }


def _kind(name: str) -> str:
    lower = name.lower()
    return next((k for k, parts in KINDS.items() if any(p in lower for p in parts)), "other")


def _union(spans: Iterable[tuple[float, float]]) -> float:
    """Time covered by at least one of the spans."""
    covered = end = 0.0
    for start, stop in sorted(spans):
        covered += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return covered


def _count(events: Iterable[Any], parts: tuple[str, ...]) -> float:
    """Events per step whose name contains one of the parts."""
    return sum(any(part in event.name for part in parts) for event in events) / STEPS


def _operators(recorder: profile) -> list[dict[str, Any]]:
    """The operators with most self time on the device, by shapes."""
    device = torch.cuda.is_available()

    def self_time(row: Any) -> float:
        return row.self_device_time_total if device else row.self_cpu_time_total

    rows = sorted(recorder.key_averages(group_by_input_shape=True), key=self_time, reverse=True)
    return [
        {
            "name": row.key,
            "shapes": str([shape for shape in row.input_shapes or () if shape])[:120],
            "calls": row.count / STEPS,
            "ms": self_time(row) / 1e3 / STEPS,
        }
        for row in rows[:LISTED]
    ]


def _python(host: cProfile.Profile) -> list[dict[str, Any]]:
    """fastslow's and PEFT's functions by total time, then all by own time; device not profiled."""
    functions = [
        {
            "function": f"{file.rsplit('site-packages/')[-1].rsplit('src/')[-1]}:{name}",
            "calls": calls / STEPS,
            "ms": 1e3 * whole / STEPS,
            "own ms": 1e3 * own / STEPS,
        }
        for (file, _, name), (_, calls, own, whole, _) in pstats.Stats(host).stats.items()
    ]
    ours = [row for row in functions if "fastslow" in row["function"] or "peft" in row["function"]]
    by_own = sorted(functions, key=lambda row: -row["own ms"])[:LISTED]
    return sorted(ours, key=lambda row: -row["ms"])[:LISTED] + by_own
