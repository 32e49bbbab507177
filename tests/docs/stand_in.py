"""`fastslow` as the pages' blocks are run with it: the same, but nobody has to wait.

A world's base is pretrained for a moment, settings in $DOCS_WITH come last, and a server is left
running on $DOCS_PORT while the commands behind it ask it, until the next one takes its place.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
from pages import RECIPE_VERBS

SERVER = Path(".server")
"""Has the number of the process that serves, which leads a group of its own."""
PATIENCE = 300
"""Seconds until a server answers, or has ended."""


def main() -> None:
    verb, *rest = sys.argv[1:]
    words = [verb, *rest]
    if verb in RECIPE_VERBS:
        words += os.environ.get("DOCS_WITH", "").split()
    if verb == "serve":
        serve([*words, "--port", os.environ["DOCS_PORT"]])
        return
    if verb == "world":
        pretrain_little()
    from fastslow.cli.main import run

    sys.argv[1:] = words
    run()


def pretrain_little() -> None:
    from fastslow.bench import tiny_base

    little = tiny_base.Pretraining(hidden_size=32, conversations=512, epochs=1)
    tiny_base.pretrain_base.__kwdefaults__["settings"] = little


def serve(words: list[str]) -> None:
    """Start a server in the background; what it says until it serves is passed on."""
    stop_server(Path.cwd())
    log = Path(".serving")
    with log.open("wb") as out:
        command = [sys.executable, "-m", "fastslow", *words]
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    SERVER.write_text(str(process.pid))
    end = time.monotonic() + PATIENCE
    while "serving on" not in log.read_text() and process.poll() is None:
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    print(log.read_text(), flush=True)
    sys.exit(0 if "serving on" in log.read_text() else "the server does not serve")


def stop_server(folder: Path) -> None:
    """End what serves there, with its learner, and wait until it has."""
    if not (folder / SERVER).exists():
        return
    group = int((folder / SERVER).read_text())
    (folder / SERVER).unlink()
    end = time.monotonic() + PATIENCE
    for process in running(group):
        process.terminate()
    while left := running(group):
        if time.monotonic() > end:
            for process in left:
                process.kill()
        time.sleep(0.1)


def running(group: int) -> list[psutil.Process]:
    """The processes of a group. Who ended and is not waited for by anybody does not count."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


if __name__ == "__main__":
    main()
