"""Processes beside this one: started with it, started again when they die, stopped with it."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from fastslow.errors import ConfigError

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds until a process that died is started again: each time twice as long."""
SOUND = 300.0
"""Seconds that a process must have lived for its death to be the first."""
ENDS_WITHIN = 30.0
"""Seconds that it gets to finish, a learner its update, when the server stops."""
LOOKS_EVERY = 1.0
"""Seconds between two looks at whether the supervisor lives."""
REFUSED = 2
"""The exit code of a learner where what was asked for cannot be: it would be so again."""
log = logging.getLogger(__name__)


@contextmanager
def learner_beside(arguments: Sequence[str]) -> Iterator[None]:
    """Inside, `fastslow learn` runs with these arguments, on cores of its own where it can."""
    command = command_of("learn", [*arguments, "--supervisor", str(os.getpid())])
    environment = on_cores(threads_of_both()[1])
    with _kept([Keeper("the learner", command, environment, final=REFUSED)]):
        yield


@contextmanager
def workers_beside(count: int, socket: int, environment: Mapping[str, str]) -> Iterator[None]:
    """Inside, so many processes answer on a socket, which they inherit by its number."""
    command = command_of("worker", ["--socket", str(socket), "--supervisor", str(os.getpid())])
    # Whatever a worker dies of may pass, as an engine that is being started again.
    with _kept(
        [
            Keeper(f"worker {number}", command, environment, files=[socket])
            for number in range(1, count + 1)
        ]
    ):
        yield


def end_with(supervisor: int, stop: Callable[[], object]) -> None:
    """Stop this process once the parent that supervises it is gone, killed too: what it leaves
    would run on unseen."""

    def look() -> None:
        while os.getppid() == supervisor:
            time.sleep(LOOKS_EVERY)
        stop()

    threading.Thread(target=look, name="supervisor-watch", daemon=True).start()


def be_less_urgent(by: int) -> None:
    """Leave the cores to others of this session first, where the system can say so."""
    if hasattr(os, "nice"):
        os.nice(by)


def threads_of_both() -> tuple[int, int]:
    """Threads that answer and threads that learn beside them, at least one each.

    Two processes that each take all cores come to a tenth of their pace, as threads that wait spin.
    """
    cores = os.cpu_count() or 1
    learning = max(1, cores // 2)
    return max(1, cores - learning), learning


def on_cores(count: int | None) -> Mapping[str, str]:
    """The environment of a process that shares the cores with others and has so many threads; with
    None as many as it likes."""
    own = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
    if count is not None:
        own |= {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}
    return {**os.environ, **own}


def command_of(verb: str, arguments: Sequence[str]) -> list[str]:
    """A command of fastslow that another process runs."""
    return [sys.executable, "-m", "fastslow", verb, *arguments]


class Keeper(threading.Thread):
    """Keeps a process running.

    Args:
        what: it is, for the log.
        files: numbers of open files that it inherits.
        final: exit code after which it is not started again.
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
            begun = time.monotonic()
            code = self._process.wait()
            if self._stopped.is_set():
                return
            if code == self._final:
                log.error("%s refuses to go on, as it says, and is not started again", self._what)
                return
            pause = FIRST_PAUSE if time.monotonic() - begun > SOUND else pause
            log.error("%s ended with code %s; it starts again in %.0f s", self._what, code, pause)
            self._stopped.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            with self._changing:
                if not self._stopped.is_set():
                    self._process = self._begun()

    def ended(self) -> int | None:
        """With which code it did; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Tell it to end, and start it no more."""
        with self._changing:
            self._stopped.set()
        if self._process.poll() is None:
            self._process.terminate()

    def wait(self) -> None:
        """Let it finish what it is at after it was told to end."""
        try:
            self._process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()  # A learner's next start learns the same update to the same bits.
            self._process.wait()

    def _begun(self) -> subprocess.Popen[bytes]:
        try:
            # Ctrl-C reaches this process alone, which then ends the others. A group, not a session:
            # Linux gives each session as much of the cores as any other, however urgent it is.
            return subprocess.Popen(
                self._command, env=self._environment, pass_fds=self._files, process_group=0
            )
        except OSError as error:
            raise ConfigError(f"cannot start {self._what}: {error.strerror}") from None


@contextmanager
def _kept(keepers: Sequence[Keeper]) -> Iterator[None]:
    for one in keepers:
        one.start()
    try:
        yield
    finally:
        for one in keepers:
            one.stop()
        for one in keepers:
            one.wait()
