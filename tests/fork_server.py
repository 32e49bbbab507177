"""Python processes that start at once: forks of one that has imported torch and the rest.

`start` and `run` take what comes after `python` on a command line: `-m fastslow train ...` or
`-c SCRIPT ...`. What they start is a real process, with a pid, an exit code, an environment, a
folder, standard input and outputs of its own, that signals reach and kill -9 kills. It costs a
hundredth of a second instead of five.

The first call starts the server, which imports the libraries and nothing of fastslow, and forks
off a second one that imports fastslow too. Both are idle and have one thread, no model, no
generator drawn from and no state of accelerate, so children start as clean as after an import.

Where a forked child differs from a fresh `python`:

- What is read when a module is imported is the server's, as it was when the tests began:
  OMP_NUM_THREADS, HF_HUB_OFFLINE, PYTHONPATH, PYTHONWARNINGS, PYTHONHASHSEED. All children of a
  server order their sets of strings alike.
- Modules are there already. A forgotten import and what an import prints go unnoticed; `bare`
  leaves fastslow to be imported.
- At its end it runs exit handlers, waits for threads and flushes, but tears no modules down.
- Its outputs are files, its input is a file, a pipe or nothing; for a terminal take `pexpect`.

So whatever starts processes is marked `processes`, and `make slow` runs it once more with
FASTSLOW_COLD_STARTS=1: the first process of each command in a test is then a fresh `python`. On any
system but Linux all are.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import pkgutil
import runpy
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

FORKS = sys.platform == "linux"
COLD = os.environ.get("FASTSLOW_COLD_STARTS", "0") != "0" or not FORKS
"""Whether a test's first process of each command is a fresh `python`."""
allowed = True
"""Whether the test at hand is marked `processes`."""
seen: set[tuple[str, ...]] = set()
"""Commands of which the test at hand has started a fresh process."""
BEGAN_WITH = dict(os.environ)
"""Before any test has changed it."""
LIBRARIES = (
    "torch", "torch.distributed.fsdp", "transformers", "accelerate", "peft", "datasets", "pydantic",
    "typer.main", "rich.progress", "yaml", "jinja2", "sqlalchemy", "alembic.command",
)  # fmt: skip
LENGTH = struct.Struct("!I")


# The side of the tests.


class Process:
    """One that was started. Its output goes to files, so that it never waits for a reader."""

    def __init__(
        self,
        arguments: tuple[str, ...],
        *,
        env: Mapping[str, str] | None,
        cwd: Path | str | None,
        input: str | bytes | None,
        pipe: bool,
        bare: bool,
        cold: bool,
    ) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        given = tempfile.TemporaryFile()
        given.write(input.encode() if isinstance(input, str) else input or b"")
        given.seek(0)
        read, self.stdin = given.fileno(), None
        if pipe:
            read, write = os.pipe()
            self.stdin = open(write, "wb")  # noqa: SIM115
        environment = dict(os.environ if env is None else env)
        folder = os.fspath(cwd or Path.cwd())
        files = (read, self._out.fileno(), self._err.fileno())
        self._life: subprocess.Popen[bytes] | _Life
        if cold or _first_of_its_command(arguments):
            command, (stdin, stdout, stderr) = [sys.executable, *arguments], files
            self._life = subprocess.Popen(
                command, env=environment, cwd=folder, stdin=stdin, stdout=stdout, stderr=stderr
            )
        else:
            self._life = _Life(_server(), arguments, environment, folder, files, bare)
        self.pid = self._life.pid
        given.close()
        if pipe:
            os.close(read)

    def poll(self) -> int | None:
        """The exit code, or less a signal's number; None while it runs."""
        self.returncode = self._life.poll()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The same, after it has ended."""
        self.returncode = self._life.wait(timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return _text(self._out.fileno())

    @property
    def stderr(self) -> str:
        return _text(self._err.fileno())


def start(
    *arguments: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    input: str | bytes | None = None,
    pipe: bool = False,
    bare: bool = False,
    cold: bool = False,
) -> Process:
    """Start `python` with these arguments.

    Args:
        env: the whole environment; this process's by default.
        cwd: the folder it starts in; this process's by default.
        input: what it can read from standard input.
        pipe: give the process a `stdin` to write to instead.
        bare: leave it to the process to import fastslow.
        cold: start a fresh `python` in any case.
    """
    assert allowed, "mark this test `processes`: it is to be run with fresh ones too"
    given = tuple(map(str, arguments))
    return Process(given, env=env, cwd=cwd, input=input, pipe=pipe, bare=bare, cold=cold)


def run(*arguments: object, timeout: float = 300, **settings: Any) -> Process:
    """The same, after it has ended; one that does not is killed and raises TimeoutExpired."""
    process = start(*arguments, **settings)
    try:
        process.wait(timeout)
    except BaseException:
        process.kill()
        raise
    return process


def _first_of_its_command(arguments: tuple[str, ...]) -> bool:
    """Whether to start this one fresh. `-m fastslow train` is a command, and so is a script."""
    command = arguments[: 3 if arguments[0] == "-m" else 2]
    if not COLD or (FORKS and command in seen):
        return False
    seen.add(command)
    return True


def _text(file: int) -> str:
    """All of a file, wherever its writer is."""
    return os.pread(file, os.fstat(file).st_size, 0).decode()


class _Life:
    """What the server says of a child: its pid, and in the end how it ended."""

    def __init__(self, server, arguments, environment, folder, files, bare) -> None:
        self._socket, theirs = socket.socketpair()
        request = {"arguments": arguments, "environment": environment, "folder": folder}
        server.send(json.dumps(request).encode(), [*files, theirs.fileno()], bare=bare)
        theirs.close()
        self._said = self._socket.makefile("r")
        self._ended: int | None = None
        first = self._said.readline()
        if not first:
            raise RuntimeError(f"the fork server has ended:\n{server.log()}")
        self.pid = int(first)

    def poll(self) -> int | None:
        if self._ended is None and select.select([self._socket], [], [], 0)[0]:
            self._ended = int(self._said.readline())
            self._said.close()
            self._socket.close()
        return self._ended

    def wait(self, timeout: float | None) -> int:
        if self._ended is None and not select.select([self._socket], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        ended = self.poll()
        assert ended is not None
        return ended


class _Server:
    """The process that forks, from here."""

    def __init__(self) -> None:
        pairs = [socket.socketpair() for _ in ("bare", "with fastslow")]
        self._lock, self._log = threading.Lock(), tempfile.TemporaryFile()
        theirs = [pair[1].fileno() for pair in pairs]
        self._sockets = [pair[0] for pair in pairs]
        # In a session of its own, as a Ctrl-C is for pytest, which then ends it.
        self.process = subprocess.Popen(
            [sys.executable, __file__, *map(str, theirs)], env=BEGAN_WITH, pass_fds=theirs,
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        for _, there in pairs:
            there.close()

    def send(self, message: bytes, files: list[int], *, bare: bool) -> None:
        connection = self._sockets[0 if bare else 1]
        with self._lock:
            socket.send_fds(connection, [LENGTH.pack(len(message))], files)
            connection.sendall(message)

    def log(self) -> str:
        return _text(self._log.fileno())

    def close(self) -> None:
        for connection in self._sockets:
            connection.close()
        self.process.wait()


@functools.cache
def _server() -> _Server:
    server = _Server()
    atexit.register(server.close)
    return server


# The side of the server.


def _serve(bare: socket.socket, whole: socket.socket) -> None:
    """Fork what is asked for, until nobody is there to ask."""
    # pyarrow's allocator would start a thread, and of a process with several only one is forked.
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
    for name in LIBRARIES:
        importlib.import_module(name)
    first = os.fork()
    if first == 0:
        import fastslow

        for module in pkgutil.walk_packages(fastslow.__path__, "fastslow."):
            # Scripts: one starts the command line, the other is run by alembic.
            if not module.name.endswith(("__main__", "migrations.env")):
                importlib.import_module(module.name)
        bare.close()
        _answer(whole)
    else:
        whole.close()
        _answer(bare)
        with contextlib.suppress(ChildProcessError):  # Where it was buried with the others.
            os.waitpid(first, 0)


def _answer(requests: socket.socket) -> None:
    import gc

    import torch
    from accelerate import PartialState
    from accelerate.state import AcceleratorState, GradientState

    assert not (PartialState._shared_state or AcceleratorState._shared_state)
    assert not GradientState._shared_state and not torch.cuda.is_initialized()
    del torch, PartialState, AcceleratorState, GradientState
    gc.collect()
    gc.freeze()  # Or a child's first collection would copy every page.
    heard, bell = socket.socketpair()
    bell.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
    children: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        selector.register(heard, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if heard in ready:
                heard.recv(4096)
                _bury(children)
            if requests not in ready:
                continue
            start, files, *_ = socket.recv_fds(requests, LENGTH.size, 4)
            if not start:
                break
            request = json.loads(_read(requests, *LENGTH.unpack(start)))
            assert len(os.listdir("/proc/self/task")) == 1, "the server has several threads"
            child = os.fork()
            if child == 0:
                signal.set_wakeup_fd(-1)
                selector.close()
                own = (requests, heard, bell, *children.values())
                _become(files, own, **request)
            life = socket.socket(fileno=files.pop())
            children[child] = life
            life.sendall(f"{child}\n".encode())
            for file in files:
                os.close(file)
    for child in children:
        os.kill(child, signal.SIGKILL)


def _read(connection: socket.socket, length: int) -> bytes:
    parts = b""
    while len(parts) < length:
        if not (part := connection.recv(length - len(parts))):
            raise EOFError
        parts += part
    return parts


def _bury(children: dict[int, socket.socket]) -> None:
    """Pass on how the children that have ended did."""
    while children:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            break
        if life := children.pop(child, None):
            with contextlib.suppress(BrokenPipeError):  # Nobody waits for it any more.
                life.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            life.close()


# The side of a child.


def _become(
    files: list[int],
    of_server: tuple[socket.socket, ...],
    *,
    arguments: list[str],
    environment: dict[str, str],
    folder: str,
) -> NoReturn:
    """Be the process that was asked for."""
    for connection in of_server:
        connection.close()
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # As these are when they are imported; a fork does so with Python's own.
    sys.modules["numpy"].random.seed()
    sys.modules["torch"].default_generator.seed()
    code = 1
    try:
        code = _main(arguments)
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _main(arguments: list[str]) -> int:
    """Run a module or a script as `python` does; its exit code."""
    how, what, *rest = arguments
    sys.argv = [how, *rest]
    try:
        if how == "-m":
            sys.path[0] = os.getcwd()
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            assert how == "-c", arguments
            sys.path[0] = ""
            sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(what, "<string>", "exec"), vars(sys.modules["__main__"]))
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve(*(socket.socket(fileno=int(given)) for given in sys.argv[1:]))
