"""Replaces the operating system's disk errors by one error that says what to do."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastslow.errors import ConfigError, FastslowError, StateError

ELSEWHERE = "choose another place, or change what may be written there"
OF_THE_REQUEST = {
    errno.EACCES: ELSEWHERE,
    errno.EPERM: ELSEWHERE,
    errno.EROFS: ELSEWHERE,
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: "a file has the name of a folder on the way to it; choose another place",
    errno.ENOTDIR: "a part of this path is a file; choose another place",
    errno.ENOTEMPTY: "a folder has this name; choose another one",
    errno.EISDIR: "a folder has this name; choose another one",
    errno.ELOOP: "it is a circle of links; choose another place",
}
"""Errors of the path that was named, with what to do."""
OF_THE_DISK = {
    errno.ENOSPC: "free some space and rerun the command; what was finished before is intact",
    errno.EDQUOT: "free some of the quota and rerun the command; what was finished is intact",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f) and rerun the command",
    errno.EIO: "check the disk; what was finished before is intact",
    errno.ESTALE: "the network's file system has lost it; rerun the command",
    errno.ENOENT: "its folder is gone; restore it, or start over in another one",
}
"""Errors of the disk itself."""
ONLY_WRITES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Errors that reading cannot raise."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """In the block a file or folder is written; disk errors on the way become one error.

    Raises ConfigError if the path cannot be written, StateError if the disk is full or fails or
    the folder is gone. Errors on reading other files pass through unchanged.
    """
    try:
        yield
    except (OSError, _safetensor_error()) as error:
        replacement = disk_error(error, path) if _concerns(path, error) else None
        if replacement is None:
            raise
        raise replacement from error


def _safetensor_error() -> type[Exception]:
    """Imported only when needed, as a command's help needs no weights."""
    from safetensors import SafetensorError

    return SafetensorError


def disk_error(error: Exception, path: Path | str | None = None) -> FastslowError | None:
    """The same error in the user's terms; None if it is not a disk error.

    `path` is what was to be written, if known.
    """
    number = _number(error)
    kind = ConfigError if number in OF_THE_REQUEST else StateError
    advice = OF_THE_REQUEST.get(number) or OF_THE_DISK.get(number)
    if advice is None:
        return None
    where = f"{path} cannot be written" if path else str(getattr(error, "filename", None) or "disk")
    return kind(f"{where}: {os.strerror(number)}; {advice}")


def _number(error: Exception) -> int:
    """The errno; safetensors and copies of whole folders have it only in their message."""
    number = getattr(error, "errno", None)
    if number is None and (match := re.search(r"(?:Errno|os error) (\d+)", str(error))):
        number = int(match[1])
    return number or 0


def _concerns(path: Path, error: Exception) -> bool:
    """Whether the error is about a path, its parents, or files beside it, where drafts are."""
    named = getattr(error, "filename", None)
    if named is None or _number(error) in ONLY_WRITES:
        return True
    target, other = path.absolute(), Path(os.fsdecode(named)).absolute()
    return other in target.parents or target.parent in other.parents
