"""Large inputs: a million rows, a report of two million steps, merge weights of 200 modules.

    python -m benchmarks.scale OUT MODEL

Creates the inputs and runs the commands on them, each in its own process. Measures CPU seconds and
memory, which other work on the machine affects little.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import fastslow
from benchmarks.speed.made_up import text
from benchmarks.speed.stream import pair
from fastslow.atomic_io import file_hash, write_text

MODULES = ("fast", "slow")
WATCHED = """
import atexit, re, sys
from pathlib import Path
_, to, *sys.argv[1:] = sys.argv
def tell():
    (most,) = re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
    Path(to).write_text(most)
atexit.register(tell)
from fastslow.cli.main import run
run()
"""
"""`fastslow`, writing its peak KiB to a file: the value reported for a child is never below its
parent's."""
FIRST_STEP = {"train.max_steps": 1, "train.batch_size": 1, "checkpoint.every": 1_000_000}


def main(
    out: Path = typer.Argument(help="Folder of the inputs and of scale.json."),
    model: Path = typer.Argument(help="A model's folder."),
    rows: int = typer.Option(1_000_000, min=1),
    lines: int = typer.Option(2_000_000, min=1, help="Steps in the event log."),
    modules: int = typer.Option(200, min=2, help="Modules in the bank."),
    only: list[str] = typer.Option([], help="Of validate, train, report, combine; default: all."),
) -> None:
    """Measure, and write scale.json after each command."""
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"rows": rows, "lines": lines, "modules": modules}
    for name, command in _commands(out, model, rows, lines, modules, only):
        results[name] = measured(command, out / f"{name}.log")
        print(f"{name}: {results[name]}", flush=True)
        write_text(out / "scale.json", json.dumps(results, indent=1) + "\n")


def _commands(
    out: Path, model: Path, rows: int, lines: int, modules: int, only: list[str]
) -> Iterator[tuple[str, list[str]]]:
    """Names and `fastslow` arguments; inputs are created when iterated."""
    wanted = set(only) or {"validate", "train", "report", "combine"}
    if wanted & {"validate", "train"}:
        data = make_rows(out / f"rows-{rows}.jsonl", rows)
        recipe = [f"model={model}", f"data.train={data}", f"output_dir={out / 'run'}"]
        if "validate" in wanted:
            yield "validate", ["validate", *recipe]
        if "train" in wanted:
            shutil.rmtree(out / "run", ignore_errors=True)
            changes = [f"{key}={value}" for key, value in FIRST_STEP.items()]
            yield "train", ["train", *recipe, *changes]
    if "report" in wanted:
        yield "report", ["report", str(make_log(out / f"log-{lines}", lines))]
    if "combine" in wanted:
        shutil.rmtree(out / "sum", ignore_errors=True)
        bank = make_bank(out / f"bank-{modules}", model, modules)
        yield "combine", ["combine", str(bank), "--to", str(out / "sum"), "--weights", "learned"]


def measured(command: list[str], log: Path) -> dict[str, float]:
    """CPU seconds, seconds and peak MB of one `fastslow` command."""
    began, peak_file = os.times().elapsed, log.with_suffix(".kib")
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHED, str(peak_file), *command], stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"fastslow {command[0]} failed: see {log}")
    return {
        "processor s": round(usage.ru_utime + usage.ru_stime, 1),
        "s": round(os.times().elapsed - began, 1),
        "MB": round(int(peak_file.read_text()) * 1024 / 1e6),
    }


def make_rows(file: Path, count: int) -> Path:
    """A file of distinct pairs, created once."""
    draw = random.Random(0)
    if not file.exists():
        write_lines(file, (pair(draw) for _ in range(count)))
    return file


def make_log(folder: Path, count: int) -> Path:
    """A run folder with `count` steps, created once."""
    if not folder.exists():
        folder.mkdir(parents=True)
        recipe = "model: model\noutput_dir: run\ndata: {train: pairs.jsonl}\n"
        (folder / "config.yaml").write_text(recipe)
        write_lines(folder / "events.jsonl", steps(count))
    return folder


def steps(count: int) -> Iterator[dict[str, Any]]:
    """Events of a run with two modules."""
    draw = random.Random(0)
    for number in range(1, count + 1):
        values = {
            name: {key: draw.random() for key in ("loss", "margin", "learning_rate", "grad_norm")}
            for name in MODULES
        }
        yield {
            "event": "step",
            "step": number,
            "pairs_seen": 8 * number,
            "leader": MODULES[number // 1000 % 2],
            **{key: draw.random() for key in ("loss", "accuracy", "margin")},
            **{f"{side}_log_ratio": draw.random() for side in ("chosen", "rejected")},
            "modules": values,
            "pairs_per_s": 10.0,
        }


def make_bank(folder: Path, model: Path, count: int) -> Path:
    """A bank of copies of one module, with separate pairs for each domain; created once."""
    if folder.exists():
        return folder
    scratch = folder.with_name(f"{folder.name}-runs")
    draw = random.Random(0)
    for number in range(count):
        name = f"d{number}"
        data = scratch / f"{name}.jsonl"
        scratch.mkdir(parents=True, exist_ok=True)
        write_lines(data, (short_pair(draw) for _ in range(32)))
        if number == 0:
            _train(model, scratch, data)
        _add(folder, scratch, name, number + 1, data)
    return folder


def short_pair(draw: random.Random) -> dict[str, str]:
    """A pair of a few words."""
    prompt, chosen, rejected = (text(draw, count) for count in (6, 4, 5))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _train(model: Path, scratch: Path, data: Path) -> None:
    """Train one domain; its bank's only entry is copied for the others."""
    fastslow.train(
        {
            "model": str(model),
            "output_dir": str(scratch / "run"),
            "data": {"max_length": 64},
            "continual": {"domains": [{"name": "d0", "train": str(data)}]},
            "lora": {"rank": 4, "alpha": 8},
            "train": {"batch_size": 8, "max_steps": 2},
        }
    )


def _add(bank: Path, scratch: Path, name: str, position: int, data: Path) -> None:
    (first,) = (scratch / "run" / "bank").iterdir()
    entry = bank / f"{position:03d}-{name}"
    shutil.copytree(first, entry)
    shutil.copyfile(data, entry / "memory.jsonl")
    manifest = json.loads((first / "manifest.json").read_text())
    manifest |= {"domain": name, "position": position}
    manifest["sha256"]["memory.jsonl"] = file_hash(entry / "memory.jsonl")
    (entry / "manifest.json").write_text(json.dumps(manifest))


def write_lines(file: Path, rows: Iterator[dict[str, Any]]) -> None:
    """One JSON object per line."""
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    typer.run(main)
