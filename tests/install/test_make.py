"""`make` where .venv or the Python is not as it should be, and what it installs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("Makefile", "pyproject.toml", "constraints.txt", "constraints-run.txt")

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


@pytest.fixture
def checkout(tmp_path):
    """What `make venv` reads of the checkout."""
    for name in PARTS:
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(folder, *arguments):
    command = ["make", "--no-print-directory", f"PYTHON={sys.executable}", *arguments]
    hidden = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    env = {k: v for k, v in os.environ.items() if k not in hidden}
    return subprocess.run(command, cwd=folder, env=env, text=True, capture_output=True, timeout=120)


def stand_in(folder, *, version, code):
    """An executable that says that it is a Python of some version and ends with a code."""
    path = folder / "some-python"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec echo "Python {version}"\nexit {code}\n'
    )
    path.chmod(0o755)
    return path


def whole_environment(folder, python):
    """A .venv that is built already, on the given Python."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(python)
    for stamp in (".runs", ".built"):
        (folder / ".venv" / stamp).touch()


def test_an_environment_that_is_whole_is_left_alone(checkout):
    whole_environment(checkout, stand_in(checkout, version="3.11.7", code=0))
    assert "Nothing to be done" in make(checkout, "venv").stdout


def break_environment(folder, fault):
    python = stand_in(folder, version="3.9.18", code=1)
    whole_environment(folder, "/gone/python3" if fault == "its Python is gone" else python)
    if fault == "it has no Python":
        (folder / ".venv" / "bin" / "python").unlink()


@pytest.mark.parametrize(
    "fault", ["it has no Python", "its Python is gone", "its Python is too old or has no pip"]
)
def test_an_environment_that_is_broken_is_made_again(checkout, fault):
    break_environment(checkout, fault)
    todo = make(checkout, "--dry-run", "venv").stdout
    assert " -m venv --clear .venv" in todo and "pip install" in todo


@pytest.mark.slow
def test_an_environment_made_again_runs(checkout):
    break_environment(checkout, "its Python is gone")
    # Nothing is installed into it here.
    done = make(checkout, "venv", "PIP=true")
    assert done.returncode == 0, done.stderr
    python = checkout / ".venv" / "bin" / "python"
    assert subprocess.run([python, "-m", "pip", "--version"]).returncode == 0
    assert "Nothing to be done" in make(checkout, "venv").stdout


@pytest.mark.parametrize(
    ("version", "said"), [("3.9.18", "is Python 3.9.18"), (None, "is missing")]
)
def test_a_python_that_will_not_do_gets_one_line(checkout, version, said):
    python = stand_in(checkout, version=version, code=1) if version else "/none/python3"
    done = make(checkout, "venv", f"PYTHON={python}")
    line, end = done.stderr.splitlines()
    assert said in line and "3.11 or newer" in line and "make PYTHON=" in line
    assert re.match(r"make(\[\d\])?: \*\*\* ", end) and done.returncode != 0
    assert not (checkout / ".venv").exists()


def test_the_demo_needs_no_test_tools(checkout):
    whole_environment(checkout, stand_in(checkout, version="3.11.7", code=0))
    (checkout / ".venv" / ".built").unlink()
    todo = make(checkout, "--dry-run", "demo").stdout
    assert "fastslow demo" in todo and "install" not in todo
    names = set(pins((ROOT / "constraints-run.txt").read_text()))
    assert {"plotly", "river", "fastapi", "openai", "psycopg"} <= names
    assert not names & {"pytest", "ruff", "mypy", "hypothesis", "playwright", "trl", "pexpect"}


def test_what_runs_is_a_part_of_what_is_tested():
    tested = pins((ROOT / "constraints.txt").read_text())
    runs = pins((ROOT / "constraints-run.txt").read_text())
    assert runs and runs.items() <= tested.items()
    assert not [name for name in runs if "[" in name], "pip takes no extras in constraints"


def pins(text):
    """Packages of a file of constraints, each with the lines that follow its name."""
    found = re.split(r"^(?=[\w.-]+(?:\[|==))", text, flags=re.M)[1:]
    together: dict[str, str] = {}
    for pin in found:
        name = re.match(r"[\w.\[\],-]+", pin)[0]
        versions = re.findall(r"==[\w.+]+|sha256:\w+", pin)
        together[name] = together.get(name, "") + " ".join(versions)
    return together
