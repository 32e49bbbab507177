"""Copies of a run folder for the processes that do not write the run's own."""

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
    """A copy of the folder in a temporary place, which is gone in the end.

    What processes that were killed have left there is removed first: the system has dropped the
    locks that they held.
    """
    home = Path(gettempdir())
    _remove_abandoned(home)
    place = home / f"{PREFIX}{uuid4().hex}"
    lock = place.with_suffix(".lock")
    with FileLock(lock):
        try:
            place.mkdir(mode=0o700)
            copytree(folder, place / folder.name)
            yield place / folder.name
        finally:
            rmtree(place, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _remove_abandoned(home: Path) -> None:
    for lock in home.glob(f"{PREFIX}*.lock"):
        with suppress(Timeout, OSError), FileLock(lock, timeout=0):  # Somebody's, or another's.
            rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
