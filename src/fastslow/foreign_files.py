"""Reads files in untrusted folders: JSON of a known shape, and paths that stay inside.

A run, a bank or an adapter is a folder that people pass on, so its contents are not trusted: a
damaged or forged file gives one error that names it, and nothing in it leads elsewhere.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from fastslow.errors import FastslowError, StateError

ADAPTER_WEIGHTS = "adapter_model.safetensors"
"""The weights in a PEFT folder."""
LARGEST = 1 << 30
"""Bytes of the largest JSON file that is read."""
KINDS: Mapping[Any, str] = {
    dict: "an object", list: "a list", str: "text", float: "a number", int: "a whole number",
    bool: "true or false", NoneType: "null",
}  # fmt: skip
"""JSON's name of each Python type."""


def check_is_run(folder: Path) -> None:
    """Raise StateError unless the folder is that of a run."""
    if not (folder / "config.yaml").exists():
        what = "has no config.yaml" if folder.is_dir() else "does not exist"
        raise StateError(f"{folder} is not a run folder: it {what}; give the output_dir of a run")


def read_json(path: Path, shape: Any, *, error: type[FastslowError] = StateError) -> Any:
    """The content of a JSON file, of the given shape.

    Args:
        path: the file.
        shape: a type as in an annotation, such as `dict[str, str]`; for a dataclass, an object
            with its fields, from which an instance is made.
        error: raised, naming the file and what is wrong, if it is missing, not JSON, or of another
            shape.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")
        if path.stat().st_size > LARGEST:
            raise OSError(f"it is larger than {LARGEST >> 20} MB")
        value = json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise error(f"{path} is missing; restore it") from None
    except RecursionError:
        raise error(f"{path} cannot be read: it is nested too deeply; restore it") from None
    except (OSError, ValueError) as fault:
        raise error(f"{path} cannot be read: {fault}; restore it") from None
    if fault_at := misfit(value, shape):
        raise error(f"{path} is damaged: {fault_at}; restore it")
    return shape(**value) if is_dataclass(shape) and isinstance(shape, type) else value


def read_log(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of each line of a file that may still be written, or was cut off: an
    incomplete last line is skipped. Raises StateError for any other that is not a JSON object."""
    if not path.is_file():
        raise StateError(f"{path} is missing, or no file; restore it")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                if not line.endswith(b"\n"):
                    return
                raise StateError(f"{path}:{number}: not JSON; restore the file") from None
            if fault := misfit(value, dict, "the line"):
                raise StateError(f"{path}:{number}: {fault}; restore the file")
            yield number, value


def misfit(value: Any, shape: Any, where: str = "") -> str:
    """What is wrong with a JSON value for a shape; empty if it fits.

    >>> misfit({"steps": "many"}, dict[str, int])
    "'steps' is text, not a whole number"
    """
    kind, inner = get_origin(shape) or shape, get_args(shape)
    if is_dataclass(shape):
        return _misfit_of_record(value, shape, where)
    if shape is Any:
        return ""
    if kind in (Union, UnionType):
        of_options = [misfit(value, option, where) for option in inner]
        # The fault of the option that the value fits best, which is the deepest one.
        return "" if "" in of_options else max(of_options, key=lambda fault: fault.count("'"))
    if not _is(value, kind):
        wanted = KINDS.get(kind, str(kind))
        return f"{where or 'the file'} is {KINDS[type(value)]}, not {wanted}"
    items: list[tuple[Any, Any]] = []
    if inner and kind is dict:
        items = [(key, item) for key, item in value.items()]
    elif inner and kind is list:
        items = list(enumerate(value, 1))
    faults = (misfit(item, inner[-1], f"{where}{'.' if where else ''}{key!r}")
              for key, item in items)  # fmt: skip
    return next(filter(None, faults), "")


def _is(value: Any, kind: Any) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _misfit_of_record(value: Any, record: Any, where: str) -> str:
    if not isinstance(value, dict):
        return f"{where or 'the file'} is {KINDS[type(value)]}, not an object"
    known = {field.name: field for field in fields(record)}
    if unknown := [key for key in value if key not in known]:
        return f"{unknown[0]!r} is unknown"
    needed = [
        name
        for name, field in known.items()
        if field.default is MISSING and field.default_factory is MISSING
    ]
    if missing := [name for name in needed if name not in value]:
        return f"{missing[0]!r} is missing"
    hints = get_type_hints(record)
    faults = (misfit(item, hints[key], repr(key)) for key, item in value.items())
    return next(filter(None, faults), "")


def inside(folder: Path, relative: str) -> Path:
    """A file or folder inside another, by the relative path that a file in there names.

    Raises StateError for an absolute path, one with `..`, or one that is or passes a link.
    """
    parts = PurePosixPath(relative).parts
    foreign = PureWindowsPath(relative)
    if foreign.drive or foreign.root or ".." in foreign.parts or "\0" in relative:
        raise StateError(
            f"{folder} names {relative!r}, which does not lie in it; only what is inside is used"
        )
    path = folder
    for part in parts:
        path /= part
        _check_no_link(path)
    return path


def check_no_links(folder: Path, *, error: type[FastslowError] = StateError) -> None:
    """Raise an error naming a link in a folder, at any depth; the folder itself may be one."""
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            _check_no_link(Path(at, name), error)


def _check_no_link(path: Path, error: type[FastslowError] = StateError) -> None:
    if path.is_symlink():
        raise error(
            f"{path} is a link, which may lead anywhere; put what it stands for in its place, or "
            "remove it"
        )
