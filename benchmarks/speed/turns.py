"""fastslow and its peers in turns: each trains in its own process, one block of steps per turn.

A failure, usually out of memory, is a result; the others continue.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoConfig

from benchmarks.speed.floor import matmul_peak, unavoidable
from benchmarks.speed.pairs import Chosen

PLAIN = {"chase": None}
OURS: dict[str, Any] = {"module": "ours", "modules": 1, "sections": PLAIN}
RACE: dict[str, Any] = {"module": "ours", "modules": 2, "sections": {}}
TRL: dict[str, Any] = {"module": "trl_dpo", "needs": "trl", "options": {}}
KNOWN = "precompute_ref_log_probs"
CACHED = {KNOWN: True}
SYSTEMS: dict[str, dict[str, Any]] = {
    "fastslow dpo": OURS,
    "fastslow ofs-dpo": RACE,
    "fastslow dpo, later epochs": OURS | {"again": True},
    "fastslow dpo, compiled": OURS | {"compile": True},
    "fastslow ofs-dpo, compiled": RACE | {"compile": True},
    "trl dpo": TRL,
    "trl dpo, cached reference": TRL | {"options": CACHED},
    "trl dpo, best": TRL | {"options": CACHED, "best": True},
}
USUAL = [name for name in SYSTEMS if "," not in name]
"""Not compiled, and without cached or precomputed reference scores."""
CHOICE = f"Of {', '.join(SYSTEMS)}."
RANK = 16
NO_MEMORY = "out of memory"


@dataclass(frozen=True)
class Comparison:
    """What all systems learn, and how."""

    model: Path
    pairs: Chosen
    """A block is one pass over these, so that all systems learn the same tokens in it."""
    out: Path
    batch_size: int
    max_length: int
    precision: str

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    @property
    def count(self) -> int:
        """Pairs in a block."""
        return len(self.pairs.prompt_tokens)

    def settings(self, name: str) -> dict[str, Any]:
        """Settings for the process of a system."""
        run = self.out / "runs" / name.replace(" ", "-").replace(",", "")
        shutil.rmtree(run, ignore_errors=True)  # Else the run would resume.
        return {
            "out": str(run),
            "model": str(self.model),
            "data": str(self.pairs.file),
            "max_length": self.max_length,
            "batch_size": self.batch_size,
            "steps": self.count // self.batch_size,
            "precision": self.precision,
            **SYSTEMS[name],
        }


class Child:
    """A training that runs one block of steps on request."""

    def __init__(self, name: str, comparison: Comparison) -> None:
        self.name = name
        self.blocks: list[dict[str, Any]] = []
        self.failed = ""
        """Why it ended; empty while it runs."""
        self.ready: dict[str, Any] = {}
        settings = comparison.settings(name)
        self._log = (comparison.out / f"{name.replace(' ', '-')}.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.speed.{settings['module']}", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )

    def wait(self) -> None:
        """Wait until its first step is ready to start."""
        self.ready = self._hear()

    def block(self) -> dict[str, Any]:
        """Measurements of the next block; empty if the training failed."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return self._hear()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            message: dict[str, Any] = json.loads(line)
            return message
        self.failed = why_it_ended(Path(self._log.name))
        print(f"{self.name} stopped: {self.failed} ({self._log.name})", flush=True)
        return {}


def why_it_ended(log: Path) -> str:
    """A short reason, from a process's last output."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    if any("OutOfMemoryError" in line or NO_MEMORY in line for line in lines):
        return NO_MEMORY
    return lines[-1].strip()[:200] if lines else "without a word"


def compare(
    comparison: Comparison,
    systems: Sequence[str],
    *,
    rounds: int,
    tell: Callable[[dict[str, Any]], None] = lambda results: None,
) -> dict[str, Any]:
    """Measurements of every system, and how they compare with the first of TRL's.

    `tell` is called after every round with the same for the rounds so far.
    """
    peaks: list[float] = []
    config = AutoConfig.from_pretrained(comparison.model)
    results: dict[str, Any] = {}
    with ExitStack() as stack:
        absent = {name: lack for name in systems if (lack := _lacks(name))}
        children = [Child(name, comparison) for name in systems if name not in absent]
        for child in children:
            stack.callback(child.close)
        for child in children:
            child.wait()
        for child in _alive(children):
            child.block()
        for number in range(rounds):
            peaks.append(matmul_peak(config, dtype=comparison.dtype))
            for child in _alive(children):
                if block := child.block():
                    child.blocks.append(block)
                    took = block["seconds"]
                    print(f"{number + 1}/{rounds} {child.name}: {took:.2f} s", flush=True)
            rows = {
                child.name: _row(child, comparison, config, median(peaks)) for child in children
            }
            rows |= {name: {"failed": lack} for name, lack in absent.items()}
            _relate(rows)
            results = {
                "setting": _setting(comparison),
                "matmul_peak": median(peaks),
                "systems": {name: rows[name] for name in systems},
            }
            tell(results)
    return results


def _lacks(name: str) -> str:
    """What is missing for a system; empty if nothing is."""
    needed = SYSTEMS[name].get("needs")
    missing = needed is not None and importlib.util.find_spec(needed) is None
    return f"{needed} is not installed" if missing else ""


def _alive(children: Sequence[Child]) -> Iterator[Child]:
    return (child for child in children if not child.failed)


def _row(child: Child, comparison: Comparison, config: Any, peak: float) -> dict[str, Any]:
    failed = {"failed": child.failed} if child.failed else {}
    if not child.blocks:
        return failed
    system = SYSTEMS[child.name]
    seconds = [block["seconds"] for block in child.blocks]
    needed = unavoidable(
        config,
        comparison.pairs,
        modules=system.get("modules", 1),
        rank=RANK,
        reference=not (system.get("again") or system.get("options", {}).get(KNOWN)),
    )
    typical = median(seconds)
    facts = {**child.ready, **child.blocks[-1]}
    notes = {key: facts[key] for key in ("options", "notes", "estimated_bytes") if facts.get(key)}
    return {
        "pairs_per_s": comparison.count / typical,
        "tokens_per_s": comparison.pairs.tokens / typical,
        "seconds": seconds,
        "peak_bytes": max(block["peak_bytes"] for block in child.blocks),
        "bytes_before_training": child.ready["peak_bytes"],
        "flop_per_s": needed / typical,
        "share_of_peak": needed / typical / peak,
        **notes,
        **failed,
    }


def _relate(rows: dict[str, dict[str, Any]]) -> None:
    """Add to every row how it compares with the first of TRL's."""
    against = next((row for name, row in rows.items() if name.startswith("trl")), {})
    if "seconds" not in against:
        return
    for row in (row for row in rows.values() if "seconds" in row):
        ratios = [a / b for a, b in zip(against["seconds"], row["seconds"], strict=False)]
        row["speed_ratio"] = {"median": median(ratios), "least": min(ratios), "most": max(ratios)}
        row["memory_ratio"] = row["peak_bytes"] / against["peak_bytes"]


def _setting(comparison: Comparison) -> dict[str, Any]:
    pairs, count = comparison.pairs, comparison.count
    return {
        "precision": comparison.precision,
        "batch_size": comparison.batch_size,
        "max_length": comparison.max_length,
        "threads": torch.get_num_threads(),
        "prompt_tokens": sum(pairs.prompt_tokens) / count,
        "response_tokens": sum(map(sum, pairs.response_tokens)) / count / 2,
    }
