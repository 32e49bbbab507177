"""What a user's own Python file does wrong is an error that names the file."""

import os
import signal

import pytest

from fastslow.errors import ConfigError, JudgeError
from fastslow.plugins import module_in, own_code


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("exit()", "SystemExit"),
        ("import sys\nsys.exit('enough')", "SystemExit: enough"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(): f()\nf()", "RecursionError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", "E"),
        ("raise ValueError('long' * 10_000)", "ValueError: longlong"),
    ],
)
def test_whatever_a_file_does_when_it_is_run_is_its_error(tmp_path, code, reason):
    path = tmp_path / "rule.py"
    path.write_text(code)
    with pytest.raises(ConfigError) as error:
        module_in(path, key="judge.file")
    text = str(error.value)
    assert f"judge.file: {path} cannot be run: {reason}" in text and len(text) < 2000


def test_a_call_that_exits_is_an_error_of_the_code():
    with (
        pytest.raises(JudgeError, match="rule.py failed: SystemExit: 3"),
        own_code("rule.py failed", JudgeError),
    ):
        raise SystemExit(3)


def test_a_ctrl_c_and_memory_that_runs_out_pass_through():
    # A shell that started the tests in the background has had them ignore it.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), own_code("rule.py failed", JudgeError):
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))  # The signal arrives between two instructions.
    signal.signal(signal.SIGINT, usual)
    with pytest.raises(MemoryError), own_code("rule.py failed", JudgeError):
        raise MemoryError
