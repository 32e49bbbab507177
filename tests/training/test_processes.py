"""Running state of several processes is that of one with all their examples."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import fields, replace

import pytest
import torch

from fastslow.objectives import make_objective
from fastslow.testing import example

SCRIPT = """
import json, sys
from accelerate import Accelerator
from fastslow.training.processes import summed
accelerator = Accelerator(cpu=True)
rank = accelerator.process_index
parts = json.loads(sys.argv[1])
sums, count = summed(accelerator, parts[rank]["sums"], parts[rank]["count"])
print(json.dumps({"sums": sums, "count": count, "processes": accelerator.num_processes}))
accelerator.end_training()
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.parametrize("name", ["alpha_dpo", "beta_dpo", "bco"])
def test_two_processes_remember_what_one_would(name):
    objective = make_objective(name)
    whole, parts = observed(objective, slice(None)), [
        observed(objective, slice(0, 4)), observed(objective, slice(4, None)),
    ]  # fmt: skip
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, json.dumps(parts)],
            env=environment(rank, port), stdout=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    for process in started:
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        got = json.loads(printed.splitlines()[-1])
        assert got["processes"] == 2 and got["count"] == 10
        after = objective.advance(objective.initial_state(), got["sums"], got["count"])
        alone = objective.advance(objective.initial_state(), whole["sums"], whole["count"])
        assert after == pytest.approx(alone, rel=1e-12)


def environment(rank, port):
    return os.environ | {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip


def observed(objective, part):
    """What the objective takes down of a part of ten examples."""
    logps = example(objective, count=10, seed=1, dtype=torch.float64)
    tensors = {
        field.name: getattr(logps, field.name)[part]
        for field in fields(logps)
        if isinstance(getattr(logps, field.name), torch.Tensor)
    }
    extras = {key: value[part] for key, value in logps.extras.items()}
    sums = objective.observe(replace(logps, **tensors, extras=extras))
    count = len(range(10)[part])
    return {"sums": {key: value.item() for key, value in sums.items()}, "count": count}
