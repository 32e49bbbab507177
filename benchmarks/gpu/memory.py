"""What a run is thought to take, before it begins, against what it takes."""

import gc
import shutil
from typing import Any

import torch

import fastslow
from benchmarks.gpu.setting import Setting
from benchmarks.speed.ours import raw_recipe
from fastslow.config import load_recipe

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "DPO": ("dpo", {}),
    "OFS-DPO": ("ofs-dpo", {}),
    "DPO, micro-batches of 4": ("dpo", {"micro_batch_size": 4}),
    "DPO, gradient_checkpointing": ("dpo", {"gradient_checkpointing": True}),
    "OFS-DPO, gradient_checkpointing": ("ofs-dpo", {"gradient_checkpointing": True}),
}


def measure(setting: Setting, shape: str) -> dict[str, Any]:
    """Bytes foreseen, and held and used at most, by case."""
    pairs = setting.pairs(setting.batch_size)
    return {name: _run(setting, shape, pairs, *case) for name, case in CASES.items()}


def _run(
    setting: Setting, shape: str, pairs: Any, method: str, train: dict[str, Any]
) -> dict[str, Any]:
    gc.collect()
    if cuda := torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if "micro_batch_size" in train:
        train = {"micro_batch_size": min(train["micro_batch_size"], setting.batch_size)}
    settings = setting.run(shape, method, pairs, max_steps=4, **train)
    shutil.rmtree(settings["out"], ignore_errors=True)
    paces: list[float] = []

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            paces.append(setting.batch_size / event["pairs_per_s"])

    summary = fastslow.train(load_recipe(raw_recipe(settings), []), listener=hear)
    used = {"used": torch.cuda.max_memory_allocated()} if cuda else {}
    return {**summary.memory, **used, "step ms": 1e3 * min(paces[1:])}
