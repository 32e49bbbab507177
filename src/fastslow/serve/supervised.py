"""Child processes: started with this one, restarted when they die, stopped with it."""

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
"""Seconds until a process that died is restarted: doubled each time."""
SOUND = 300.0
"""Seconds a process must have lived for the pause to be the first again."""
ENDS_WITHIN = 30.0
"""Seconds a process gets to finish (a learner its update) when the server stops."""
REFUSED = 2
"""Exit code of a process whose settings are invalid: a restart would not help."""
log = logging.getLogger(__name__)


@contextmanager
def learner_beside(arguments: Sequence[str]) -> Iterator[None]:
    """In the context, `fastslow learn` runs with these arguments, on its own cores if possible."""
    command = command_of("learn", [*arguments, "--supervisor", str(os.getpid())])
    environment = on_cores(threads_of_both()[1])
    with _kept([Keeper("the learner", command, environment, final=REFUSED)]):
        yield


@contextmanager
def workers_beside(count: int, socket: int, environment: Mapping[str, str]) -> Iterator[None]:
    """Inside the context, `count` processes answer on a socket, inherited by its number."""
    command = command_of("worker", ["--socket", str(socket), "--supervisor", str(os.getpid())])
    # No exit code is final: the cause may be temporary, such as an engine that is restarting.
    with _kept(
        [
            Keeper(f"worker {number}", command, environment, files=[socket])
            for number in range(1, count + 1)
        ]
    ):
        yield


def be_less_urgent(by: int) -> None:
    """Lower this process's priority among those of its session, where the system supports it."""
    if hasattr(os, "nice"):
        os.nice(by)


def threads_of_both() -> tuple[int, int]:
    """Numbers of threads that answer and that learn, at least one each.

    Two processes that each use all cores run at a tenth of their speed, as waiting threads spin.
    """
    cores = os.cpu_count() or 1
    learning = max(1, cores // 2)
    return max(1, cores - learning), learning


def on_cores(count: int | None) -> Mapping[str, str]:
    """The environment of a process that shares the cores with others and uses `count` threads;
    None: no limit."""
    settings = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
    if count is not None:
        settings |= {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}
    return {**os.environ, **settings}


def command_of(verb: str, arguments: Sequence[str]) -> list[str]:
    """The command line of a fastslow verb in another process."""
    return [sys.executable, "-m", "fastslow", verb, *arguments]


class Keeper(threading.Thread):
    """Keeps a process running.

    Args:
        what: names the process in the log.
        files: numbers of open files that it inherits.
        final: exit code after which it is not restarted.
    """

    def __init__(
        self,
        what: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        files: Sequence[int] = (),
        final: int | None = None,
    ) -> None:
        super().__init__(name=f"keeper of {what}", daemon=True)
        self._what, self._final = what, final
        self._command, self._environment, self._files = command, environment, files
        self._stopped, self._changing = threading.Event(), threading.Lock()
        self._process = self._begun()

    def run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopped.is_set():
            started = time.monotonic()
            code = self._process.wait()
            if self._stopped.is_set():
                return
            if code == self._final:
                log.error(
                    "%s cannot continue, for the reason it gave, and is not restarted", self._what
                )
                return
            pause = FIRST_PAUSE if time.monotonic() - started > SOUND else pause
            log.error("%s ended with code %s; restarting in %.0f s", self._what, code, pause)
            self._stopped.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            with self._changing:
                if not self._stopped.is_set():
                    self._process = self._begun()

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Terminate the process, and do not restart it."""
        with self._changing:
            self._stopped.set()
        if self._process.poll() is None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait for it to finish after `stop`; kill it after ENDS_WITHIN seconds."""
        try:
            self._process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()  # A restarted learner learns the same update bit for bit.
            self._process.wait()

    def _begun(self) -> subprocess.Popen[bytes]:
        try:
            # Ctrl-C reaches this process alone, which then ends the others. A group, not a session:
            # Linux shares the cores equally between sessions, whatever their priority.
            return subprocess.Popen(
                self._command, env=self._environment, pass_fds=self._files, process_group=0
            )
        except OSError as error:
            raise ConfigError(f"cannot start {self._what}: {error.strerror}") from None


@contextmanager
def _kept(keepers: Sequence[Keeper]) -> Iterator[None]:
    for keeper in keepers:
        keeper.start()
    try:
        yield
    finally:
        for keeper in keepers:
            keeper.stop()
        for keeper in keepers:
            keeper.wait()
