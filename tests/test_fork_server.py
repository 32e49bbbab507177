"""A forked process is as a fresh one, for all that a test can ask of it."""

import json
import os
import signal
import subprocess
import time

import fork_server
import pytest

pytestmark = pytest.mark.processes


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("pass", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('what is wrong')", 1),
        ("1 / 0", 1),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("import threading, os; threading.Thread(target=os._exit, args=[5]).start()", 5),
        ("import atexit, os; atexit.register(os._exit, 6)", 6),
    ],
)
def test_its_end_is_that_of_python(script, code):
    done = fork_server.run("-c", script)
    assert done.returncode == code
    wanted = {"sys.exit('": "what is wrong", "1 /": "ZeroDivisionError", "raise": "Interrupt"}
    assert all(text in done.stderr for part, text in wanted.items() if part in script)


def test_what_it_is_given_and_says_is_its_own(tmp_path):
    script = (
        "import os, sys; print(sys.argv, os.getcwd(), os.environ.get('OWN'), sys.stdin.read());"
        "print('beside', file=sys.stderr); os.environ['LEFT'] = '1'; sys.path.append('left')"
    )
    for number in range(2):
        env = os.environ | {"OWN": str(number)}
        done = fork_server.run("-c", script, "a", number, env=env, cwd=tmp_path, input="read")
        assert done.stdout == f"['-c', 'a', '{number}'] {tmp_path} {number} read\n"
        assert done.stderr == "beside\n"
    left = fork_server.run("-c", "import os, sys; print('LEFT' in os.environ, 'left' in sys.path)")
    assert left.stdout == "False False\n" and "LEFT" not in os.environ


def test_it_runs_beside_others_and_can_be_signalled_and_fed():
    script = "import sys; print(sys.stdin.readline(), end='', flush=True); sys.stdin.read()"
    fed, killed = (fork_server.start("-c", script, pipe=True) for _ in range(2))
    assert fed.pid != killed.pid and fed.poll() is killed.poll() is None
    fed.stdin.write(b"first\n")
    fed.stdin.flush()
    while fed.stdout != "first\n":
        time.sleep(0.01)
    killed.kill()
    assert killed.wait(20) == -signal.SIGKILL and fed.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        fed.wait(0.05)
    fed.stdin.close()
    assert fed.wait(20) == 0
    fed.kill()  # Which does nothing any more.
    assert fed.poll() == 0


def test_one_that_is_bare_imports_fastslow_itself():
    script = "import sys; print('fastslow' in sys.modules, 'torch' in sys.modules)"
    fresh, there, bare = (
        fork_server.run("-c", script, **how).stdout for how in ({"cold": True}, {}, {"bare": True})
    )
    assert fresh == "False False\n"
    assert there == (fresh if fork_server.COLD else "True True\n")
    assert bare == ("False True\n" if fork_server.FORKS else fresh)


def test_with_cold_starts_the_first_process_of_each_command_is_fresh(monkeypatch):
    monkeypatch.setattr(fork_server, "COLD", True)
    scripts = [f"import sys; print('torch' in sys.modules, {number})" for number in range(2)]
    found = [fork_server.run("-c", script).stdout.split()[0] for script in scripts * 2]
    assert found == ["False", "False", *([str(fork_server.FORKS)] * 2)]


STATE = """
import gc, json, locale, logging, os, random, signal, sys, threading, warnings
for name in sys.argv[1:]:
    __import__(name)
import numpy, torch
from accelerate.state import AcceleratorState, GradientState, PartialState

states = (AcceleratorState, GradientState, PartialState)
streams = (sys.stdin, sys.stdout, sys.stderr)
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "name": __name__, "folder": os.getcwd(),
    "environment": dict(os.environ), "descriptors": sorted(os.listdir("/proc/self/fd")),
    "handlers": {s.name: str(signal.getsignal(s)) for s in signal.Signals if s != signal.SIGINT},
    "threads": threading.active_count(), "collector": [gc.get_threshold(), gc.isenabled()],
    "streams": [[s.isatty(), s.encoding, s.errors, s.line_buffering] for s in streams],
    "warnings": list(map(str, warnings.filters)), "locale": locale.setlocale(locale.LC_ALL),
    "logging": [logging.root.level, list(map(str, logging.root.handlers))],
    "umask": os.umask(0), "states": [state._shared_state for state in states],
    "torch": [torch.get_num_threads(), str(torch.get_default_dtype()), torch.is_grad_enabled(),
              torch.are_deterministic_algorithms_enabled(), torch.distributed.is_initialized()],
    "drawn": [random.random(), numpy.random.rand(), torch.rand(1).item(), torch.initial_seed()],
}))
"""


@pytest.mark.slow
def test_its_state_is_that_of_a_fresh_one(tmp_path, monkeypatch):
    monkeypatch.setattr(fork_server, "COLD", False)
    given = ("-c", STATE, *fork_server.LIBRARIES)
    states = [
        json.loads(fork_server.run(*given, cwd=tmp_path, bare=True, cold=cold).stdout)
        for cold in (True, False, False)
    ]
    drawn = [state.pop("drawn") for state in states]
    assert all(len(set(values)) == 3 for values in zip(*drawn, strict=True))
    for forked in states[1:]:
        assert {k for k in forked if forked[k] != states[0][k]} == set()
