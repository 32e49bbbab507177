"""Atomic writes, and hashes of files."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastslow.disk_errors import disk_errors


def write_text(path: Path, text: str) -> None:
    """Replace a file's content in one step. Raises as `disk_errors`; nothing is left then."""
    draft = path.with_name(f".{path.name}.draft")
    with disk_errors(path), _removed_on_error(draft):
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        _sync_folder(path.parent)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as a .jsonl file in one step."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def file_hash(path: Path) -> str:
    """sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_empty(path: Path) -> None:
    """Make a folder, if need be. Raises FileExistsError where there is something in it."""
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise FileExistsError(f"{path} is not empty")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A draft folder to fill, which takes the place of `path` when the block ends well.

    When it does not, nothing is left. Raises as `disk_errors`.
    """
    draft = path.with_name(f".{path.name}.draft")
    with disk_errors(path), _removed_on_error(draft):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        for file in sorted(draft.rglob("*")):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        _sync_folder(draft)
        shutil.rmtree(path, ignore_errors=True)
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


def _sync_folder(path: Path) -> None:
    if os.name != "posix":
        return  # Elsewhere a folder cannot be opened; the rename itself is still one step.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
