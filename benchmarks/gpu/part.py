"""One part in a process of its own: `python -m benchmarks.gpu.part NAME SETTING ANSWER`.

Whatever becomes of it, for want of memory or of time, is a result; the other parts do not notice.
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
    """What a part finds within the seconds that are left, or how it ended."""
    slug = part.name.replace(" ", "-")
    answer, log = setting.scratch / f"{slug}.json", setting.scratch / f"{slug}.log"
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-m", __spec__.name, part.name, setting.as_json(), str(answer)]
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        try:
            process.wait(left)
        except subprocess.TimeoutExpired:
            return _so_far(answer) | {"stopped": f"the time was up after {left:.0f} s"}
        finally:
            with suppress(ProcessLookupError):  # It and all that it started.
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    ended = {"failed": why_it_ended(log)} if process.returncode else {}
    return _so_far(answer) | ended


def _so_far(answer: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.read_text()) if answer.exists() else {}
    return found


def measure(name: str, setting: Setting, tell: Tell) -> dict[str, Any]:
    """What a part finds. Its name is its kind, and where it has them a shape and a length."""
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

    def tell(found: dict[str, Any]) -> None:
        write_text(Path(answer), json.dumps(found))

    tell(measure(name, Setting.from_json(setting), tell))


if __name__ == "__main__":
    main()
