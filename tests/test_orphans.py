"""Workers of a command that is killed end too."""

from pathlib import Path

import fork_server
import pytest
import tiny
from local_processes import alive, children, until

from fastslow.config import dump_recipe

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers in /proc"),
]
TRAININGS = """
import os, time
from fastslow.bench.suite import in_parallel

def stay():
    open(f"{os.getpid()}.at", "w").close()
    time.sleep(600)

if __name__ == "__main__":
    list(in_parallel([stay] * 2, workers=2))
"""


def kill(process, workers):
    """Kill a command; its workers end by themselves."""
    assert workers and all(map(alive, workers))
    process.kill()
    until(lambda: not any(map(alive, workers)), seconds=20)


def test_trainings_in_parallel_end_with_a_command_that_is_killed(tmp_path):
    (tmp_path / "trainings.py").write_text(TRAININGS)
    process = fork_server.start("-m", "trainings", cwd=tmp_path)
    begun = until(lambda: len(found := list(tmp_path.glob("*.at"))) == 2 and found)
    kill(process, [int(path.stem) for path in begun])


def test_checks_of_rows_end_with_a_command_that_is_killed(recipe, tmp_path):
    path = tiny.write_rows(tmp_path / "many.jsonl", tiny.rows(1000) * 200)
    made = tmp_path / "recipe.yaml"
    made.write_text(dump_recipe(recipe(f"data.train={path}")))
    process = fork_server.start("-m", "fastslow", "validate", made)
    kill(process, until(lambda: children(process.pid)))
