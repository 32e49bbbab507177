"""Two processes on this machine that train one run together, and what they leave."""

import json
import os
import socket
import time
from pathlib import Path

import fork_server
import tiny
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

from fastslow.config import dump_recipe

LAUNCH = Path(__file__).parents[1] / "launch"


def launched(config):
    """The environment that accelerate's launcher makes of a file, but on a CPU."""
    command = ["--config_file", str(LAUNCH / config), "-m", "fastslow"]
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(command))
    made = prepare_multi_gpu_env(arguments)
    settings = {key: value for key, value in made.items() if key not in os.environ}
    return settings | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


WHOLE, DIVIDED = launched("several-gpus.yaml"), launched("divided-base.yaml")
"""Two processes with whole bases, and with its layers divided over them."""

TRAIN = """
import json, os, signal, sys
import fastslow
from fastslow import training
from fastslow.errors import FastslowError
from fastslow.training.distributed.processes import ProcessGroup

stop_at = int(sys.argv[1])
def hear(event):
    if event["event"] == "step" and event["step"] == stop_at:
        os.kill(os.getpid(), signal.SIGTERM)
for path in sys.argv[2:]:
    try:
        summary = training.train(path, listener=hear)
    except FastslowError as error:
        print("RESULT", json.dumps(f"{type(error).__name__}: {error}"))
    else:
        rank = ProcessGroup().rank
        print("RESULT", json.dumps(summary and [rank, summary.steps, summary.leader]))
"""


def start_two(script, *arguments, **settings):
    """Two processes with such environment variables, the main one first."""
    port = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    settings |= {"WORLD_SIZE": "2", **port}
    return [
        fork_server.start(
            "-c", script, *arguments,
            env=os.environ | settings | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]  # fmt: skip


def in_two(script, *arguments, **settings):
    """What two processes print after RESULT, line by line."""
    started = start_two(script, *arguments, **settings)
    wait_for(*started)
    for process in started:
        assert process.returncode == 0, process.stderr[-3000:]
    return [
        [json.loads(line.removeprefix("RESULT ")) for line in out.splitlines() if "RESULT" in line]
        for out in (process.stdout for process in started)
    ]


def free_port():
    """One that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(*processes, timeout=300):
    """Until all have ended; where one fails, the others would wait for it and are killed."""
    ends = time.monotonic() + timeout
    while (codes := [process.poll() for process in processes]).count(None):
        failed = next((p for p, code in zip(processes, codes, strict=True) if code), None)
        if failed or time.monotonic() > ends:
            for process in processes:
                process.kill()
                process.wait()
            assert failed is None, failed.stderr[-3000:]
            raise TimeoutError("\n\n".join(process.stderr[-3000:] for process in processes))
        time.sleep(0.01)


def written(recipe):
    """The recipe as a file."""
    path = Path(recipe.output_dir).with_suffix(".yaml")
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    return path


def apart(folder, other):
    """Largest difference of two runs' final weights, in largest weights of their tensor."""
    found, expected = tiny.adapters(folder), tiny.adapters(other)
    assert found.keys() == expected.keys() and found
    return max(
        float((found[name][key] - tensor).abs().max() / tensor.abs().max().clamp(min=1e-6))
        for name, tensors in expected.items()
        for key, tensor in tensors.items()
    )


def events(folder):
    return [json.loads(line) for line in (Path(folder) / "events.jsonl").read_text().splitlines()]
