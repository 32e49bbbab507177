"""Pairs per second and memory of fastslow and its peers, in turns, on the same pairs.

python -m benchmarks.speed OUT --data path/to/helpfulness --shape 70m
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
import typer
from rich.console import Console
from transformers import AutoTokenizer

from benchmarks.speed.pairs import choose_pairs
from benchmarks.speed.shapes import SHAPES, learn_tokenizer, make_model
from benchmarks.speed.turns import CHOICE, USUAL, Comparison, compare


def main(
    out: Path = typer.Argument(help="Folder of the results."),
    data: Path = typer.Option(help="A domain's folder with train.jsonl.gz."),
    shape: str = typer.Option("70m", help=f"One of {', '.join(SHAPES)}."),
    model: Path = typer.Option(None, help="A model folder instead of a shape."),
    systems: list[str] = typer.Option(USUAL, "--system", help=CHOICE),
    rounds: int = typer.Option(5, min=1, help="Blocks of each system, after a warm-up block."),
    steps: int = typer.Option(2, min=1, help="Optimiser steps in a block."),
    batch_size: int = typer.Option(8, min=1, help="Pairs in a step."),
    max_length: int = typer.Option(512, help="Tokens of prompt and response."),
    precision: str = typer.Option("float32", help="float32, mixed or bfloat16."),
) -> None:
    """Measure in turns, and write results.json and table.md."""
    out.mkdir(parents=True, exist_ok=True)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    tokens = partial(learn_tokenizer, data)
    folder = model or make_model(shape, tokens, out / f"model-{shape}", dtype=dtype)
    tokenizer, file = AutoTokenizer.from_pretrained(folder), out / "pairs.jsonl"
    chosen = choose_pairs(data, tokenizer, file, count=steps * batch_size, max_length=max_length)
    comparison = Comparison(folder, chosen, out, batch_size, max_length, precision)
    results = compare(comparison, systems, rounds=rounds)
    named = {"shape": str(model.name) if model else shape, "data": data.name}
    results["setting"] = named | results["setting"]
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "table.md").write_text(table(results))
    Console().print(table(results))


def table(results: dict[str, Any]) -> str:
    """Markdown with a row per system."""
    lines = [
        f"{', '.join(f'{key} {value}' for key, value in results['setting'].items())}",
        "",
        "| system | pairs/s | times TRL | from, to | peak memory | times TRL's | of matmul peak |",
        "|---" * 7 + "|",
    ]
    for name, row in results["systems"].items():
        lines.append(f"| {' | '.join([name, *_cells(name, row)])} |")
    return "\n".join(lines) + "\n"


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    if "pairs_per_s" not in row:
        return [row["failed"], *[""] * 5]
    speed = row.get("speed_ratio")
    return [
        f"{row['pairs_per_s']:.2f}",
        f"{speed['median']:.2f}" if speed else "",
        f"{speed['least']:.2f}, {speed['most']:.2f}" if speed else "",
        f"{row['peak_bytes'] / 2**30:.2f} GiB",
        f"{row['memory_ratio']:.2f}" if speed else "",
        f"{row['share_of_peak']:.0%}" if name.startswith("fastslow") else "",
    ]


if __name__ == "__main__":
    typer.run(main)
