"""One part in its own process: `python -m benchmarks.gpu.part NAME SETTING ANSWER`.

If it runs out of memory or time, that is its result; the other parts are not affected.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.schedule import Part, Tell
from benchmarks.gpu.setting import Setting
from benchmarks.speed.turns import why_it_ended
from fastslow.atomic_io import write_text


def in_a_process(part: Part, left: float, *, setting: Setting) -> dict[str, Any]:
    """A part's results within the seconds left, or how it ended."""
    slug = part.name.replace(" ", "-")
    answer, log = setting.scratch / f"{slug}.json", setting.scratch / f"{slug}.log"
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-m", __spec__.name, part.name, setting.as_json(), str(answer)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            process.wait(left)
        except subprocess.TimeoutExpired:
            return _so_far(answer) | {"stopped": f"the time was up after {left:.0f} s"}
        finally:
            with suppress(ProcessLookupError):  # With all processes that it started.
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    ended = {"failed": why_it_ended(log)} if process.returncode else {}
    return _so_far(answer) | ended


def _so_far(answer: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(answer.read_text()) if answer.exists() else {}
    return results


def measure(name: str, setting: Setting, tell: Tell) -> dict[str, Any]:
    """A part's results. Its name is its kind, followed by a shape and a length if it has them."""
    from benchmarks.gpu import (
        attention,
        correct,
        generation,
        machine,
        memory,
        profile,
        speed,
        tests,
    )

    kind, *rest = name.split()
    shape, length = rest[0] if rest else "", int(rest[1]) if rest[1:] else 0
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "machine": partial(machine.measure, setting),
        "correct": partial(correct.measure, setting),
        "tests": partial(tests.measure, setting),
        "generation": partial(generation.measure, setting, shape, tell),
        "speed": partial(speed.measure, setting, shape, length, tell),
        "profile": partial(profile.measure, setting, shape, length, "ofs-dpo"),
        "memory": partial(memory.measure, setting, shape, length, tell),
        "attention": partial(attention.measure, setting, shape, length),
    }
    return parts[kind]()


def main() -> None:
    name, setting, answer = sys.argv[1:]

    def tell(results: dict[str, Any]) -> None:
        write_text(Path(answer), json.dumps(results))

    tell(measure(name, Setting.from_json(setting), tell))


if __name__ == "__main__":
    main()
