"""Pairs a second and memory of fastslow and of its peers, in turns, on the same pairs.

    python -m benchmarks.speed OUT --data path/to/helpfulness --shape 70m

Every system trains in a process of its own and waits while another one has its turn, a block of
steps at a time; a block is one pass over the same pairs, so that all learn the same tokens in it.
"""

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import typer
from rich.console import Console
from transformers import AutoConfig, AutoTokenizer

from benchmarks.speed.floor import matmul_peak, unavoidable
from benchmarks.speed.pairs import choose_pairs
from benchmarks.speed.shapes import SHAPES, learn_tokenizer, make_model

PLAIN = {"chase": None}
SYSTEMS: dict[str, dict[str, Any]] = {
    "fastslow dpo": {"module": "ours", "modules": 1, "sections": PLAIN},
    "fastslow ofs-dpo": {"module": "ours", "modules": 2, "sections": {}},
    "fastslow dpo, later epochs": {
        "module": "ours",
        "modules": 1,
        "sections": PLAIN,
        "again": True,
    },
    "fastslow dpo, compiled": {"module": "ours", "modules": 1, "sections": PLAIN, "compile": True},
    "fastslow ofs-dpo, compiled": {"module": "ours", "modules": 2, "sections": {}, "compile": True},
    "trl dpo": {"module": "trl_dpo", "options": {}},
    "trl dpo, cached reference": {
        "module": "trl_dpo",
        "options": {"precompute_ref_log_probs": True},
    },
}
USUAL = [name for name in SYSTEMS if "," not in name]
"""Not compiled, and without the reference's scores of an earlier epoch or of a pass beforehand."""
CHOICE = f"Of {', '.join(SYSTEMS)}."
AGAINST = "trl dpo"


class Child:
    """A training that runs a block of steps when it is told to."""

    def __init__(self, name: str, settings: dict[str, Any], log: Path) -> None:
        self.name = name
        self.blocks: list[dict[str, float]] = []
        self.failed = False
        """Whether it has come to its end, for want of memory as a rule; its log says why."""
        module = f"benchmarks.speed.{SYSTEMS[name]['module']}"
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        self.ready: dict[str, float] = {}

    def wait(self) -> None:
        """Until its first step could begin."""
        self.ready = self._hear()

    def block(self) -> dict[str, float]:
        """What the next block took."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return self._hear()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _hear(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.failed = not line
        if self.failed:
            print(f"{self.name} stopped; see {self._log.name}", flush=True)
            return {}
        return json.loads(line)


def main(
    out: Path = typer.Argument(help="Folder of the results."),
    data: Path = typer.Option(help="A domain's folder with train.jsonl.gz."),
    shape: str = typer.Option("70m", help=f"One of {', '.join(SHAPES)}."),
    model: Path = typer.Option(None, help="Instead of a shape: a model folder."),
    systems: list[str] = typer.Option(USUAL, "--system", help=CHOICE),
    rounds: int = typer.Option(5, min=1, help="Blocks of each system, after one to warm up."),
    steps: int = typer.Option(2, min=1, help="Optimiser steps in a block."),
    batch_size: int = typer.Option(8, min=1, help="Pairs in a step."),
    max_length: int = typer.Option(512, help="Tokens of prompt and response."),
    precision: str = typer.Option("float32", help="float32, mixed or bfloat16."),
) -> None:
    """Alternate, measure, and write results.json and table.md."""
    out.mkdir(parents=True, exist_ok=True)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    tokens = partial(learn_tokenizer, data)
    folder = model or make_model(shape, tokens, out / f"model-{shape}", dtype=dtype)
    config = AutoConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    count = steps * batch_size
    chosen = choose_pairs(data, tokenizer, out / "pairs.jsonl", count=count, max_length=max_length)
    shared = {
        "model": str(folder),
        "data": str(chosen.file),
        "max_length": max_length,
        "batch_size": batch_size,
        "steps": steps,
        "precision": precision,
    }
    peaks = []
    with ExitStack() as stack:
        children = []
        for name in systems:
            own = {"out": str(out / "runs" / name.replace(" ", "-").replace(",", "")), **shared}
            shutil.rmtree(own["out"], ignore_errors=True)  # A training would go on with it.
            child = Child(name, {**own, **SYSTEMS[name]}, out / f"{name.replace(' ', '-')}.log")
            stack.callback(child.close)
            children.append(child)
        for child in children:
            child.wait()
        for child in children:
            child.block()
        children = [child for child in children if not child.failed]
        for number in range(rounds):
            peaks.append(matmul_peak(config, dtype=dtype))
            for child in children:
                child.blocks.append(child.block())
                if child.failed:
                    raise SystemExit(f"{child.name} stopped")
                took = child.blocks[-1]["seconds"]
                print(f"{number + 1}/{rounds} {child.name}: {took:.2f} s", flush=True)
    rows = {}
    for child in children:
        seconds = [block["seconds"] for block in child.blocks]
        modules = SYSTEMS[child.name].get("modules", 1)
        known = SYSTEMS[child.name].get("again", False)
        needed = unavoidable(config, chosen, modules=modules, rank=16, reference=not known)
        rows[child.name] = {
            "pairs_per_s": count / median(seconds),
            "seconds": seconds,
            "peak_bytes": max(block["peak_bytes"] for block in child.blocks),
            "bytes_before_training": child.ready["peak_bytes"],
            "share_of_peak": needed / median(seconds) / median(peaks),
        }
    against = rows.get(AGAINST)
    for row in rows.values() if against else ():
        ratios = [a / b for a, b in zip(against["seconds"], row["seconds"], strict=True)]
        row["speed_ratio"] = {"median": median(ratios), "least": min(ratios), "most": max(ratios)}
        row["memory_ratio"] = row["peak_bytes"] / against["peak_bytes"]
    found = {
        "setting": {
            "shape": str(model.name) if model else shape,
            "data": data.name,
            "precision": precision,
            "batch_size": batch_size,
            "max_length": max_length,
            "threads": torch.get_num_threads(),
            "prompt_tokens": sum(chosen.prompt_tokens) / count,
            "response_tokens": sum(map(sum, chosen.response_tokens)) / count / 2,
        },
        "matmul_peak": median(peaks),
        "systems": rows,
    }
    (out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / "table.md").write_text(table(found))
    Console().print(table(found))


def table(found: dict[str, Any]) -> str:
    """A row a system."""
    lines = [
        f"{', '.join(f'{key} {value}' for key, value in found['setting'].items())}",
        "",
        "| system | pairs/s | times TRL | from, to | peak memory | times TRL's | of matmul peak |",
        "|---" * 7 + "|",
    ]
    for name, row in found["systems"].items():
        speed = row.get("speed_ratio")
        cells = [
            name,
            f"{row['pairs_per_s']:.2f}",
            f"{speed['median']:.2f}" if speed else "",
            f"{speed['least']:.2f}, {speed['most']:.2f}" if speed else "",
            f"{row['peak_bytes'] / 2**30:.2f} GiB",
            f"{row['memory_ratio']:.2f}" if speed else "",
            f"{row['share_of_peak']:.0%}" if name.startswith("fastslow") else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
