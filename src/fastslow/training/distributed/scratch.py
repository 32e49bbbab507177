"""Temporary copies of a run folder, for the processes that do not write to the run's own."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copytree, rmtree
from tempfile import gettempdir
from uuid import uuid4

from filelock import FileLock, Timeout

PREFIX = "fastslow-rank-"


@contextmanager
def scratch_copy(folder: Path) -> Iterator[Path]:
    """A temporary copy of the folder, removed at the end.

    Copies left by killed processes are removed first: the system has released their locks.
    """
    home = Path(gettempdir())
    _remove_abandoned(home)
    copy = home / f"{PREFIX}{uuid4().hex}"
    lock = copy.with_suffix(".lock")
    with FileLock(lock):
        try:
            copy.mkdir(mode=0o700)
            copytree(folder, copy / folder.name)
            yield copy / folder.name
        finally:
            rmtree(copy, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _remove_abandoned(home: Path) -> None:
    for lock in home.glob(f"{PREFIX}*.lock"):
        with suppress(Timeout, OSError), FileLock(lock, timeout=0):  # In use, or another user's.
            rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
