"""fastslow on a GPU: speed against TRL, MFU, memory, numerical accuracy, a profile.

    python -m benchmarks.gpu OUT

Parts run in order of importance, each in its own process. Each result is written to
OUT/results.json as soon as it is known, so an interrupted run keeps the earlier ones. A part that
does not fit in the time left is skipped. `--device cpu --shape tiny --length 64` takes the same
path without a GPU, which tests the code and measures nothing of interest.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory
from typing import Any

import typer

from benchmarks.gpu.part import in_a_process
from benchmarks.gpu.schedule import Part, Schedule
from benchmarks.gpu.setting import PAIRS, Setting
from benchmarks.gpu.table import table
from benchmarks.speed.turns import CHOICE
from fastslow.atomic_io import write_text

SHAPES = ["0.5b", "1.5b", "8b"]
SHAPES_HELP = f"Of {', '.join(PAIRS)}; single measurements use the first."
SYSTEMS = ["fastslow dpo", "fastslow ofs-dpo", "trl dpo, best"]
SECONDS = {"machine": 20, "correct": 45, "tests": 25, "generation": 35, "profile": 40, "memory": 60,
           "attention": 40}  # fmt: skip
"""Expected time of each kind of part on an H100, start included."""
SPEED_SECONDS = {"tiny": 40, "0.5b": 55, "1.5b": 65, "8b": 100}
"""Expected time of three systems in turns, by shape."""
IN_MEMORY = Path("/dev/shm")
ROOM = 40 << 30
"""Bytes needed for models and everything made from them."""


def main(
    out: Path = typer.Argument(help="Folder of the results."),
    shapes: list[str] = typer.Option(SHAPES, "--shape", help=SHAPES_HELP),
    lengths: list[int] = typer.Option(
        [1024, 4096], "--length", min=64, max=4096, help="Tokens of prompt and response."
    ),
    minutes: float = typer.Option(9.0, min=0.0, help="Time limit for all parts."),
    device: str = typer.Option("cuda", help="cuda or cpu."),
    precision: str = typer.Option(
        None, help="bfloat16 (default), float32 (default on cpu) or mixed."
    ),
    systems: list[str] = typer.Option(SYSTEMS, "--system", help=CHOICE),
    rounds: int = typer.Option(3, min=1, help="Blocks of each system, after a warm-up block."),
    steps: int = typer.Option(3, min=1, help="Optimiser steps in a block."),
    scratch: Path = typer.Option(
        None,
        help="Folder of models; default: one in memory if there is room, else a temporary one.",
    ),
    only: list[str] = typer.Option(
        [], help="Parts by name, such as 'speed 0.5b 1024'; default: all."
    ),
) -> None:
    """Measure each part, and write results.json, table.md and a trace."""
    _check(shapes, device)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    out.mkdir(parents=True, exist_ok=True)
    schedule = Schedule(minutes)
    results: dict[str, Any] = {}

    def store(name: str, result: Any) -> None:
        results[name] = result
        write_text(out / "results.json", json.dumps(results, indent=1) + "\n")
        write_text(out / "table.md", table(results))
        print(f"{table({name: result})}{schedule.spent:.0f} s since the start\n", flush=True)

    with TemporaryDirectory(dir=scratch or _roomy()) as models:
        setting = Setting(
            out=out.absolute(),
            scratch=Path(models),
            precision=precision or ("float32" if device == "cpu" else "bfloat16"),
            systems=tuple(systems),
            rounds=rounds,
            steps=steps,
        )
        chosen = [part for part in parts(shapes, lengths) if not only or part.name in only]
        schedule.run(chosen, partial(in_a_process, setting=setting), store)


def parts(shapes: Sequence[str], lengths: Sequence[int]) -> Iterator[Part]:
    """All parts, most important first."""
    first, (short, *longer) = shapes[0], sorted(lengths)
    yield _part("machine")
    yield _speed(first, short)
    yield _part("correct")
    for shape in shapes[1:]:
        yield _speed(shape, short)
    yield _part(f"profile {first} {short}")
    yield _part(f"generation {first}")
    for length in longer:
        for shape in shapes:
            yield _speed(shape, length)
    yield _part("tests")
    yield _part(f"memory {first} {short}")
    yield _part(f"attention {first} {short}")


def _part(name: str) -> Part:
    return Part(name, SECONDS[name.split()[0]])


def _speed(shape: str, length: int) -> Part:
    return Part(f"speed {shape} {length}", SPEED_SECONDS[shape])


def _check(shapes: Sequence[str], device: str) -> None:
    """Raise BadParameter for what cannot be measured; hide the GPU if cpu was chosen."""
    if unknown := [shape for shape in shapes if shape not in PAIRS]:
        raise typer.BadParameter(f"shape {', '.join(unknown)}: allowed are {', '.join(PAIRS)}")
    if device not in ("cuda", "cpu"):
        raise typer.BadParameter(f"device {device}: allowed are cuda and cpu")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Every part is a process and inherits this.
        return
    import torch

    if not torch.cuda.is_available():
        raise typer.BadParameter(
            "no GPU here; --device cpu --shape tiny --length 64 tries the code"
        )


def _roomy() -> Path | None:
    """A folder in memory, where models are written and read quickly; None if it is too small."""
    roomy = IN_MEMORY.is_dir() and disk_usage(IN_MEMORY).free > ROOM
    return IN_MEMORY if roomy else None


if __name__ == "__main__":
    typer.run(main)
