"""How a training waits its turn: timed blocks of steps, started over a pipe.

The parent writes a line for each block; the child answers with the block's time. Trainings that
take turns see the same machine.
"""

import gc
import json
import os
import sys
import time
from typing import Any

import torch


class Pace:
    """In a child: counts steps and pauses after each block.

    On a GPU, unused memory is released before another child's turn, and a block begins with as many
    untimed steps, which allocate it again.
    """

    def __init__(self, steps: int) -> None:
        self._steps, self._untimed = steps, steps if torch.cuda.is_available() else 0
        self._left = steps + self._untimed
        # Libraries print to stdout; the pipe keeps its own handle.
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._began = 0.0
        self.notes: list[str] = []
        """Deviations from the settings, such as a smaller micro-batch."""

    def ready(self, **told: Any) -> None:
        """Call once, when the first step is ready to start."""
        self._say({"ready": True, "peak_bytes": peak_bytes(), **told})
        self._wait()

    def step(self) -> None:
        """Call after every optimiser step."""
        self._left -= 1
        if self._untimed and self._left == self._steps:
            torch.cuda.synchronize()
            self._began = time.perf_counter()
        if self._left == 0:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            took = time.perf_counter() - self._began
            if torch.cuda.is_available():
                gc.collect()
                torch.cuda.empty_cache()
            self._say({"seconds": took, "peak_bytes": peak_bytes(), "notes": self.notes})
            self._left = self._steps + self._untimed
            self._wait()

    def _say(self, found: dict[str, Any]) -> None:
        print(json.dumps(found), file=self._out, flush=True)

    def _wait(self) -> None:
        if not sys.stdin.readline():
            os._exit(0)
        self._began = time.perf_counter()


def peak_bytes() -> int:
    """This process's peak memory, on the GPU if there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    with open("/proc/self/status", encoding="ascii") as file:
        (line,) = (line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
