"""The benchmark of a GPU, without one: its time limit, its counts, and the same way on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.gpu.__main__ import parts
from benchmarks.gpu.machine import peak
from benchmarks.gpu.schedule import Part, Schedule
from benchmarks.gpu.table import table
from benchmarks.speed.floor import unavoidable
from benchmarks.speed.pairs import Chosen
from benchmarks.speed.shapes import SHAPES

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "benchmarks.gpu"]
ON_A_CPU = ["--device", "cpu", "--shape", "tiny", "--length", "64", "--rounds", "1", "--steps", "1"]


class Clock:
    """Time that passes when a part is measured."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def run(minutes, takes, *expected):
    """What is stored of parts that take so many seconds."""
    clock, stored, lefts = Clock(), {}, []
    schedule = Schedule(minutes, clock=clock)

    def measure(part, left):
        lefts.append(left)
        clock.now += takes[part.name]
        return {"failed": "out of memory"} if part.name.startswith("full") else {"took": clock.now}

    named = [Part(name, seconds) for name, seconds in zip(takes, expected, strict=True)]
    schedule.run(named, measure, stored.__setitem__)
    return stored, lefts


def test_what_does_not_fit_is_left_out_with_a_word_and_what_fits_follows():
    stored, lefts = run(1, {"a": 20, "b": 50, "c": 30}, 20, 50, 30)
    assert stored["b"] == {"skipped": "no time left: 50 s expected, 40 s left"}
    assert "took" in stored["c"] and lefts == [60, 40]


def test_a_slower_machine_is_expected_to_stay_slow():
    stored, _ = run(2, {"a": 60, "b": 60, "c": 40}, 20, 20, 15)
    assert "took" in stored["a"] and "took" in stored["b"]
    assert stored["c"]["skipped"].startswith("no time left: 45 s expected, 0 s left")


def test_a_failure_is_a_result_and_says_nothing_of_the_pace():
    stored, _ = run(1, {"full": 1, "b": 20}, 30, 50)
    assert stored["full"] == {"failed": "out of memory"} and "took" in stored["b"]


def test_the_worth_of_parts_is_their_order():
    names = [part.name for part in parts(["0.5b", "8b"], [4096, 1024])]
    assert names[:2] == ["machine", "speed 0.5b 1024"]
    assert names.index("speed 8b 1024") < names.index("speed 0.5b 4096")
    assert len(names) == len(set(names)) == 11


def test_peaks_of_cards():
    assert peak("NVIDIA H200") == peak("NVIDIA H100 80GB HBM3") == 989.5e12
    assert peak("NVIDIA H100 PCIe") == 756e12 and peak("x86_64") is None


def made(prompt, *responses):
    return Chosen(Path(), [prompt], [responses])


def test_operations_are_those_that_torch_counts():
    config = LlamaConfig(**SHAPES["tiny"], vocab_size=512, attn_implementation="eager")
    model = LlamaForCausalLM(config)
    prompt, said = 40, 24
    ids = torch.zeros(1, prompt + said, dtype=torch.long)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        hidden = model.model(ids).last_hidden_state
        model.lm_head(hidden[:, prompt - 1 : -1])
    counts = counter.get_flop_counts()["Global"]
    products = sum(count for kind, count in counts.items() if "bmm" not in str(kind))
    squares = sum(count for kind, count in counts.items() if "bmm" in str(kind))
    # Torch counts all of the squares of attention, here what is on and below their diagonals.
    tokens = prompt + said
    attention = squares * (tokens * (tokens + 1) / 2) / tokens**2
    counted = unavoidable(config, made(prompt, said), modules=0, rank=16)
    assert counted == pytest.approx(products + attention, rel=0.01)


def test_operations_of_a_module_by_hand():
    config = LlamaConfig(**SHAPES["tiny"], vocab_size=512)
    sides = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 128), (64, 128), (128, 64)]
    total, tokens, said = 0.0, 5 + 3 + 4, 3 + 4
    for _ in range(2):
        for inside, outside in sides:
            total += 2 * tokens * 2 * inside * outside  # Forward, and the activations' gradients.
            total += 3 * tokens * 2 * 16 * (inside + outside)  # And those of A and B.
        seen = sum(place + 1 for place in range(5))
        seen += sum(5 + place + 1 for length in (3, 4) for place in range(length))
        total += 3 * seen * 2 * 2 * 64
    total += 2 * said * 2 * 64 * 512
    pairs = made(5, 3, 4)
    assert unavoidable(config, pairs, modules=1, rank=16, reference=False) == total
    both = unavoidable(config, pairs, modules=2, rank=16, reference=False)
    assert both == 2 * total


def test_endings_of_parts_stand_in_the_table():
    told = table({"speed 8b 1024": {"failed": "out of memory"}, "tests": {"skipped": "no time"}})
    assert "failed: out of memory" in told and "skipped: no time" in told


def results_of(folder, *options):
    ran = subprocess.run(
        [*COMMAND, str(folder), *ON_A_CPU, "--scratch", str(folder.parent), *options],
        cwd=ROOT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads((folder / "results.json").read_text()), ran.stdout


@pytest.mark.slow
def test_the_same_way_on_a_cpu(tmp_path):
    chosen = ["machine", "speed tiny 64", "profile tiny 64", "generation tiny"]
    systems = ["fastslow dpo", "trl dpo, best"]
    options = [part for name in chosen for part in ("--only", name)]
    options += [part for name in systems for part in ("--system", name)]
    found, said = results_of(tmp_path / "out", "--minutes", "14", *options)
    assert list(found) == chosen and all(f"{name}\n" in said for name in chosen)
    speed = found["speed tiny 64"]["systems"]
    assert list(speed) == systems
    ours = speed["fastslow dpo"]
    peak = found["speed tiny 64"]["matmul_peak"]
    assert ours["share_of_peak"] == pytest.approx(ours["flop_per_s"] / peak)
    assert ours["mfu"] is None and ours["peak_bytes"] > 0, "nobody told this processor's peak"
    theirs = speed["trl dpo, best"]
    if "failed" not in theirs:
        assert theirs["options"]["precompute_ref_log_probs"] and theirs["speed_ratio"]["most"] == 1
    assert set(found["generation tiny"]["tokens per s"]) == {"fastslow", "transformers"}
    assert (tmp_path / "out" / found["profile tiny 64"]["trace"]).stat().st_size > 1000
    assert not list(tmp_path.glob("tmp*")), "models do not stay"


@pytest.mark.slow
def test_a_part_is_stopped_when_the_time_is_up(tmp_path):
    options = ["--only", "speed tiny 64", "--only", "tests"]
    found, said = results_of(tmp_path / "out", "--minutes", "0.68", "--rounds", "10000", *options)
    assert found["speed tiny 64"]["stopped"].startswith("the time was up after 4")
    assert found["tests"]["skipped"].startswith("no time left") and "stopped: " in said
