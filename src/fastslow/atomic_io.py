"""Atomic writes, and file hashes."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from fastslow.disk_errors import disk_errors
from fastslow.errors import ConfigError

OWN = 0o600
"""Mode of files with users' texts: readable by their owner only."""
ALL = 0o666
"""Mode of other files, less the umask."""


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Replace a file's content in one step; a link in its place is replaced, not followed.

    A `private` file, which holds users' texts, can be read by its owner only. Raises as
    `disk_errors`; then nothing is left behind.
    """
    with new_file(path) as draft:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWN if private else ALL)
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A draft file to write, which replaces `path` when the block succeeds, as in `new_folder`."""
    draft = path.with_name(f".{path.name}.draft")
    with disk_errors(path), _removed_on_error(draft):
        draft.unlink(missing_ok=True)
        yield draft
        _sync_file(draft)
        os.replace(draft, path)
        _sync_folder(path.parent)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], *, private: bool = False) -> None:
    """Write rows as a .jsonl file in one step; `private` as for `write_text`."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(path, "".join(lines), private=private)


def file_hash(path: Path) -> str:
    """sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_empty(path: Path) -> None:
    """Make a folder, if needed. Raises FileExistsError if there is something in it."""
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise FileExistsError(f"{path} is not empty")


def check_free(path: Path) -> None:
    """Raise ConfigError if the path exists."""
    if os.path.lexists(path):
        raise ConfigError(f"{path} exists already; give a folder that does not")


@contextmanager
def new_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A draft folder to fill, which replaces `path` when the block succeeds.

    If it fails, nothing is left behind. Links in the place of either are removed, not followed.
    Without `replace`, anything at `path` by then stays and ConfigError is raised: in a place that a
    user chose, it may be somebody else's, who may also be writing a draft. Raises as `disk_errors`.
    """
    apart = "" if replace else f".{token_hex(4)}"
    draft = path.with_name(f".{path.name}{apart}.draft")
    with disk_errors(path), _removed_on_error(draft):
        _remove(draft)
        draft.mkdir(parents=True)
        yield draft
        for file in sorted(draft.rglob("*")):
            if file.is_file():
                _sync_file(file)
        _sync_folder(draft)
        if replace:
            _remove(path)
        else:
            check_free(path)
        os.replace(draft, path)
        _sync_folder(path.parent)


@contextmanager
def _removed_on_error(draft: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
        raise


def _remove(path: Path) -> None:
    """Remove a folder with all that is in it, or the link in its place."""
    if path.is_symlink():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if os.name != "posix":
        return  # Elsewhere a folder cannot be opened; the rename is still one step.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
