"""What this code does on a GPU: right numbers, pace, memory, and where the time goes.

    python -m benchmarks.gpu OUT --data path/to/helpfulness --tokenizer path/to/base-6m

Every part writes its result when it is done, so a run that is cut off leaves those before it; a
part is left out when the time is up. Without a GPU it runs too, with `--shape 70m --vocabulary
4096 --batch-size 2 --precision float32`, which tries the code and measures nothing of interest.
"""

import json
import platform
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
import typer

from benchmarks.gpu import attention, correct, memory, profile
from benchmarks.gpu.clock import square_peak
from benchmarks.gpu.setting import VOCABULARY, Setting
from benchmarks.gpu.table import table
from benchmarks.speed.__main__ import USUAL
from benchmarks.speed.__main__ import main as against_trl

Part = Callable[[], Any]


def main(
    out: Path = typer.Argument(help="Folder of the results."),
    data: Path = typer.Option(help="A domain's folder with train.jsonl.gz."),
    tokenizer: Path = typer.Option(help="A folder with a tokenizer that has a chat template."),
    shapes: list[str] = typer.Option(["0.5b", "1.5b"], "--shape"),
    vocabulary: int = typer.Option(VOCABULARY, help="Of the models."),
    batch_size: int = typer.Option(16, min=1, help="Pairs in a step."),
    max_length: int = typer.Option(1024, help="Tokens of prompt and response."),
    precision: str = typer.Option("bfloat16", help="float32, mixed or bfloat16."),
    systems: list[str] = typer.Option(USUAL, "--system", help="As of benchmarks.speed."),
    rounds: int = typer.Option(5, min=1, help="Blocks of each system, after one to warm up."),
    steps: int = typer.Option(4, min=1, help="Optimiser steps in a block."),
    minutes: float = typer.Option(6.0, help="No part begins after so long."),
    only: list[str] = typer.Option([], help="Parts by name, as `step 0.5b`; none is all."),
) -> None:
    """Measure part after part, and write results.json and table.md."""
    out.mkdir(parents=True, exist_ok=True)
    setting = Setting(out, data, tokenizer, vocabulary, batch_size, max_length, precision)
    parts: dict[str, Part] = {"correct": partial(correct.measure, setting)}
    for shape in shapes:
        speed = partial(_speed, setting, shape, systems, rounds, steps)
        parts |= {
            f"step {shape}": partial(profile.measure, setting, shape, "ofs-dpo"),
            f"memory {shape}": partial(memory.measure, setting, shape),
            f"attention {shape}": partial(attention.measure, setting, shape),
            f"speed {shape}": speed,
        }
    results: dict[str, Any] = {"machine": _machine(setting)}
    end = time.monotonic() + 60 * minutes
    for name, part in parts.items():
        if only and name not in only:
            continue
        results[name] = _result(part) if time.monotonic() < end else "no time left"
        (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        print(f"{name}: {time.monotonic() - end + 60 * minutes:.0f} s since the start", flush=True)
    (out / "table.md").write_text(table(results))
    print(table(results))


def _result(part: Part) -> Any:
    """What a part finds, or how it failed, which does not keep the others from running."""
    try:
        return part()
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return f"failed: {type(error).__name__}: {error}"
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _machine(setting: Setting) -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.processor(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "peak of a square product": square_peak(8192 if cuda else 512, setting.dtype),
    }


def _speed(
    setting: Setting, shape: str, systems: list[str], rounds: int, steps: int
) -> dict[str, Any]:
    """benchmarks.speed on this setting's model."""
    folder = setting.out / f"speed-{shape}"
    against_trl(
        folder,
        data=setting.data,
        shape=shape,
        model=setting.model(shape),
        systems=systems,
        rounds=rounds,
        steps=steps,
        batch_size=setting.batch_size,
        max_length=setting.max_length,
        precision=setting.precision,
    )
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    typer.run(main)
