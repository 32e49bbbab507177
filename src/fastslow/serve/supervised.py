"""A learner beside the server: started with it, started again when it dies, stopped with it."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from fastslow.errors import ConfigError

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds until a learner that died is started again: each time twice as long."""
SOUND = 300.0
"""Seconds that a learner must have lived for its death to be the first."""
ENDS_WITHIN = 30.0
"""Seconds that it gets to finish an update when the server stops."""
REFUSED = 2
"""Its exit code where what was asked for cannot be: it would be so again."""
log = logging.getLogger(__name__)


@contextmanager
def learner_beside(arguments: Sequence[str]) -> Iterator[None]:
    """Inside, `fastslow learn` runs with these arguments, on cores of its own where it can."""
    command = [sys.executable, "-m", "fastslow", "learn", *arguments]
    command += ["--supervisor", str(os.getpid())]
    keeper = _Keeper(command, _on_own_cores())
    keeper.start()
    try:
        yield
    finally:
        keeper.stop()


def threads_of_both() -> tuple[int, int]:
    """Threads that answer and threads that learn beside them, at least one each.

    Two processes that each take all cores come to a tenth of their pace, as threads that wait spin.
    """
    cores = os.cpu_count() or 1
    learning = max(1, cores // 2)
    return max(1, cores - learning), learning


def _on_own_cores() -> Mapping[str, str]:
    _, learning = threads_of_both()
    number = str(learning)
    own = {"OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number}
    return {**os.environ, **own, "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


class _Keeper(threading.Thread):
    """Keeps a process running."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        super().__init__(name="learner-keeper", daemon=True)
        self._command, self._environment = command, environment
        self._stopped = threading.Event()
        self._process = self._begun()

    def run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopped.is_set():
            begun = time.monotonic()
            code = self._process.wait()
            if self._stopped.is_set():
                return
            if code == REFUSED:
                log.error("the learner refuses to start; votes are kept and nothing is learned")
                return
            pause = FIRST_PAUSE if time.monotonic() - begun > SOUND else pause
            log.error("the learner ended with code %s; it starts again in %.0f s", code, pause)
            if self._stopped.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE)
            self._process = self._begun()

    def stop(self) -> None:
        """Let it finish what it is at, and wait for it."""
        self._stopped.set()
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()  # Its next start learns the same update to the same bits.
            self._process.wait()

    def _begun(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(self._command, env=self._environment)
        except OSError as error:
            raise ConfigError(f"cannot start the learner: {error.strerror}") from None
