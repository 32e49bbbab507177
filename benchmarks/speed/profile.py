"""Time breakdown of a step: `python -m benchmarks.speed.profile MODEL PAIRS`.

MODEL and PAIRS are the model folder and pairs.jsonl that `python -m benchmarks.speed OUT` wrote.
"""

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import typer
from torch.profiler import ProfilerActivity, profile

import fastslow
from fastslow.config import load_recipe

KINDS = {
    "attention": ("scaled_dot_product", "flash_attention"),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "aten::matmul"),
    "softmax of the head": (
        "logsumexp",
        "aten::exp",
        "aten::gather",
        "aten::scatter",
        "aten::amax",
    ),
    "copies": ("copy_", "aten::cat", "clone", "contiguous", "index", "embedding", "fill_", "zero_"),
    "norms, activations, rotations, sums": ("aten::",),
}
"""Kinds of operators, by parts of their names; the first match counts."""


def main(
    model: Path,
    pairs: Path,
    batch_size: int = 8,
    steps: int = 3,
    chase: bool = typer.Option(False, "--chase", help="OFS-DPO in place of DPO."),
    precision: str = "float32",
    rows: int = typer.Option(25, help="Operators to list."),
) -> None:
    """Print the time shares of kinds of operators, and the slowest operators."""
    recorder = profile(activities=[ProfilerActivity.CPU], record_shapes=False)

    def hear(event: dict) -> None:
        if event["event"] == "step" and event["step"] == 2:
            recorder.start()
        if event["event"] == "step" and event["step"] == 2 + steps:
            recorder.stop()

    with TemporaryDirectory() as folder:
        raw = {
            "model": str(model),
            "output_dir": folder,
            "data": {"train": str(pairs), "max_length": 512},
            "train": {
                "batch_size": batch_size,
                "max_steps": 2 + steps,
                "epochs": 1000,
                "precision": precision,
            },
        }
        recipe = load_recipe(raw if chase else raw | {"chase": None}, [])
        fastslow.train(recipe, listener=hear)
    averages = recorder.key_averages()
    spent: Counter[str] = Counter()
    for row in averages:
        kind = next((k for k, parts in KINDS.items() if any(p in row.key for p in parts)), "other")
        spent[kind] += row.self_cpu_time_total
    total = sum(spent.values())
    print(
        json.dumps({kind: round(time / total, 3) for kind, time in spent.most_common()}, indent=1)
    )
    print(f"{total / 1e6 / steps:.3f} s a step")
    print(averages.table(sort_by="self_cpu_time_total", row_limit=rows, max_name_column_width=50))


if __name__ == "__main__":
    typer.run(main)
