"""Evaluates a policy with a tool: writes its files, runs its command, reads its results."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import join

from fastslow.disk_errors import disk_errors
from fastslow.errors import ConfigError, StateError
from fastslow.evaluation import Benchmark
from fastslow.foreign_files import check_no_links, inside
from fastslow.harnesses.base import EvaluatedRun, EvaluationRequest, Harness, ToolCommand

FOLDER = "benchmarks"
"""Folder in the run folder, with a folder for each tool and in it one for each policy."""
VERSIONS = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
STDERR = 2


@dataclass(frozen=True, slots=True)
class ToolEvaluation:
    """The outcome of an evaluation with a tool."""

    folder: Path
    """The tool's files, and what it wrote."""
    result: Benchmark | None
    """None if a person still has to run the tool."""
    by_hand: str = ""
    """What a person does with the files if fastslow cannot run the tool."""


def run_harness(
    harness: Harness,
    run: EvaluatedRun,
    request: EvaluationRequest,
    *,
    python: str | None = None,
) -> ToolEvaluation:
    """Write the tool's files into the run folder, run it and read its results.

    What the tool prints goes to standard error. Files of an earlier call for the same policy are
    replaced, except judgements made by hand. The earlier files stay if new ones cannot be written;
    otherwise they are kept beside them, as `MODULE.earlier`, until there are results.

    Args:
        harness: the tool.
        run: the run.
        request: what is asked of it.
        python: the Python of the environment that the tool is installed in; None: this one.

    Raises ConfigError for an option that the tool does not have, or if it is not installed (after
    its files are written); StateError if it fails.
    """
    check_options(harness, request)
    module = run.policy(request.module)
    folder = folder_of(run.folder, harness, module)
    if harness.by_hand and harness.read(folder):
        raise ConfigError(
            f"{folder} holds judgements; read them with --read, or remove the folder to start over"
        )
    earlier = _earlier(run.folder, harness, module)
    with _set_aside(folder, earlier):
        prepared = harness.prepare(run, request, folder)
    by_hand, version, result = "", None, None
    if isinstance(prepared, str):
        by_hand = prepared
    else:
        if prepared is not None:
            version = _call(harness.name, prepared, python or sys.executable, earlier)
        result = _result(harness, module, folder, version)
    shutil.rmtree(earlier, ignore_errors=True)
    return ToolEvaluation(folder, result, by_hand)


def read_evaluation(harness: Harness, run: EvaluatedRun, module: str) -> ToolEvaluation:
    """The results in the run folder of a tool that was run by hand. Raises StateError if there are
    none yet."""
    name = run.policy(module)
    folder = folder_of(run.folder, harness, name)
    result = _result(harness, name, folder, None)
    shutil.rmtree(_earlier(run.folder, harness, name), ignore_errors=True)
    return ToolEvaluation(folder, result)


def folder_of(run: Path, harness: Harness, module: str) -> Path:
    """The folder of a tool's files for a policy. Raises StateError if a link is in the way."""
    return inside(run, f"{FOLDER}/{harness.name}/{module}")


def _earlier(run: Path, harness: Harness, module: str) -> Path:
    """Where the earlier folder is kept until there are new results."""
    return folder_of(run, harness, f"{module}.earlier")


@contextmanager
def _set_aside(folder: Path, earlier: Path) -> Iterator[None]:
    """The folder is empty inside the block, and restored if the block fails."""
    with disk_errors(folder):
        if folder.is_dir() and not earlier.exists():
            folder.rename(earlier)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if earlier.is_dir():
            earlier.rename(folder)
        raise


def check_options(harness: Harness, request: EvaluationRequest) -> None:
    """Raise ConfigError with the options that a tool does not have."""
    if unknown := [name for name in request.given() if name not in harness.options]:
        raise ConfigError(
            f"{harness.name}: {', '.join(unknown)}: no effect there; its options are "
            f"{', '.join(sorted(harness.options))}"
        )


def _result(harness: Harness, module: str, folder: Path, version: str | None) -> Benchmark:
    if not folder.is_dir():
        raise StateError(f"{folder} does not exist; run the command without --read first")
    check_no_links(folder)
    scores = harness.read(folder)
    if not scores:
        raise StateError(f"{harness.name} has left no results in {folder}")
    return Benchmark(harness.name, module, version, scores)


def _call(name: str, command: ToolCommand, python: str, earlier: Path) -> str:
    """Run a tool; its version."""
    line = [python, *command.arguments]
    by_hand = join(line)
    if earlier.is_dir():
        by_hand += f" (what the call before left is in {earlier})"
    version = _version(name, command.packages, python, by_hand)
    environment = os.environ | command.environment
    process = subprocess.run(line, env=environment, stdin=subprocess.DEVNULL, stdout=STDERR)
    if process.returncode:
        raise StateError(
            f"{name} failed with exit code {process.returncode}; its output is above. By hand: "
            f"{by_hand}"
        )
    return version


def _version(name: str, packages: Sequence[str], python: str, by_hand: str) -> str:
    """The version of a tool. Raises ConfigError where not all of the packages are installed."""
    try:
        process = subprocess.run(
            [python, "-c", VERSIONS, *packages], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ConfigError(
            f"{name}: {python} cannot be run: {error.strerror}. The files are written: {by_hand}"
        ) from None
    if process.returncode:
        raise ConfigError(
            f"{name}: needs {' and '.join(packages)} in the environment of {python}; install them, "
            "or give the Python of one that has them (--tool-python). The files are written: "
            f"{by_hand}"
        )
    return process.stdout.split()[0]
