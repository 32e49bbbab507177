"""Tests of scoring that need a GPU."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu.setting import Setting

ROOT = Path(__file__).parents[2]
CHOSEN = (
    "tests/scoring/test_ragged.py::test_the_kernel_on_a_gpu",
    "tests/scoring/test_score.py::test_gradients_equal_those_of_responses_alone_on_a_gpu",
)


def measure(setting: Setting) -> dict[str, Any]:
    """How many passed, failed and were skipped; without a GPU they are skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *CHOSEN]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    counts = re.findall(r"(\d+) (passed|failed|skipped|error)", ran.stdout)
    result: dict[str, Any] = {"counts": {kind: int(number) for number, kind in counts}}
    if ran.returncode or not counts:
        result["failed"] = (ran.stdout + ran.stderr).strip()[-1000:]
    return result
