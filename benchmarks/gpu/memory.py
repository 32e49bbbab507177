"""A run's estimated memory against its actual memory."""

import gc
import shutil
from typing import Any

import torch

import fastslow
from benchmarks.gpu.schedule import Tell
from benchmarks.gpu.setting import Setting
from benchmarks.speed.ours import raw_recipe
from benchmarks.speed.turns import NO_MEMORY
from fastslow.config import load_recipe
from fastslow.errors import FastslowError

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "DPO": ("dpo", {}),
    "OFS-DPO": ("ofs-dpo", {}),
    "DPO, micro-batches of 1": ("dpo", {"micro_batch_size": 1}),
    "DPO, gradient_checkpointing": ("dpo", {"gradient_checkpointing": True}),
    "OFS-DPO, gradient_checkpointing": ("ofs-dpo", {"gradient_checkpointing": True}),
}


def measure(setting: Setting, shape: str, length: int, tell: Tell) -> dict[str, Any]:
    """Bytes by case: estimated, and the peaks of those held and used."""
    results: dict[str, Any] = {}
    for name, (method, train) in CASES.items():
        try:
            results[name] = _run(setting, shape, length, method, train)
        except (FastslowError, torch.OutOfMemoryError) as error:
            full = NO_MEMORY in str(error).lower()
            results[name] = {"failed": NO_MEMORY if full else str(error)}
        tell(results)
    return results


def _run(
    setting: Setting, shape: str, length: int, method: str, train: dict[str, Any]
) -> dict[str, Any]:
    gc.collect()
    if cuda := torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    settings = setting.run(shape, length, method, max_steps=4, **train)
    shutil.rmtree(settings["out"], ignore_errors=True)
    paces: list[float] = []

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            paces.append(settings["batch_size"] / event["pairs_per_s"])

    summary = fastslow.train(load_recipe(raw_recipe(settings), []), listener=hear)
    used = {"used": torch.cuda.max_memory_allocated()} if cuda else {}
    return {**summary.memory, **used, "step ms": 1e3 * min(paces[1:])}
