"""The text of `data.train` to sources: files, folders, globs, datasets, hub ids, votes, `-`."""

import glob
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastslow.errors import DataError
from fastslow.streams.sources.arrow import DatasetFolder, ParquetFile
from fastslow.streams.sources.csv_table import CsvTable
from fastslow.streams.sources.file import FileSource
from fastslow.streams.sources.hub import HubDataset
from fastslow.streams.sources.json_array import json_file
from fastslow.streams.sources.json_lines import JsonLines
from fastslow.streams.sources.ledger import FEEDBACK, Ledger
from fastslow.streams.sources.live import open_standard_input
from fastslow.streams.sources.source import Source
from fastslow.streams.sources.splits import files_of_split

FORMATS: dict[str, Callable[[Path], FileSource]] = {
    ".jsonl": JsonLines,
    ".parquet": ParquetFile,
    ".csv": CsvTable,
    ".json": json_file,
}
"""By suffix; text may be compressed as well (.jsonl.gz)."""
READ = ".jsonl, .json, .csv (each also .gz) and .parquet"
TOGETHER = ((".jsonl", ".parquet"), (".csv",), (".json",))
"""Of a folder only the first of these that it holds are read: what stands beside them is often the
same rows in another format, or says something about them."""
OTHERS = re.compile(
    r"\.(tsv|arrow|ndjson|feather|orc|xlsx?|pickle|pkl|zip|tar|zst|xz|bz2|lz4)(\.gz)?$", re.I
)
ABOUT_DATA = (
    "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json",
    "world.json",
)  # fmt: skip
NAMES = "give a file, directory, glob, hub id, feedback:DIR or -"
SHOWN = 5


@dataclass(slots=True)
class Found:
    """What a text stands for."""

    sources: list[Source]
    unread: list[str] = field(default_factory=list)
    """Files of it that look like data and are not read."""


def open_sources(
    specs: Sequence[str], *, follow: bool = False, kept: Path | None = None
) -> list[Source]:
    """The sources for files, folders, globs, dataset folders, hub ids, a feedback store or `-`.

    Args:
        specs: their texts.
        follow: more may be added while they are read, so that a line without its end is no row.
        kept: where standard input is kept.

    Raises DataError if one stands for nothing, or for something that cannot be read.
    """
    return [source for spec in specs for source in _expand(spec, follow, kept).sources]


def source_warnings(specs: Sequence[str], *, follow: bool = False) -> list[str]:
    """A line for each of them that holds files which are not read, or nothing."""
    warnings = []
    for spec in specs:
        found = _expand(spec, follow)
        if found.unread:
            more = f" and {len(found.unread) - SHOWN} more" if len(found.unread) > SHOWN else ""
            warnings.append(
                f"not read of {spec}: {', '.join(found.unread[:SHOWN])}{more}; name what is to be "
                "read, file by file or with a glob"
            )
        warnings += [
            f"{source.name} is empty"
            for source in found.sources
            if isinstance(source, FileSource) and not source.stamp.size
        ]
    return warnings


def _expand(spec: str, follow: bool = False, kept: Path | None = None) -> Found:
    if spec == "-":
        return Found([open_standard_input(kept)])
    if spec.startswith(FEEDBACK):
        return Found([Ledger(spec.removeprefix(FEEDBACK))])
    if not spec.strip():
        raise DataError(f"an empty text names no data; {NAMES}")
    try:
        path, split = _path_and_split(spec)
        if path.is_dir():
            return _folder(path, split, follow)
        if path.exists() or path.is_symlink():
            return Found([_file(path, follow)])
    except OSError as error:
        raise DataError(f"{spec[:200]} cannot be read: {error.strerror}") from None
    if has_wildcard(spec):
        paths = [Path(name) for name in sorted(glob.glob(spec, recursive=True))]
        files = [path for path in paths if not path.is_dir()]
        if not files and not follow:
            raise DataError(f"no file matches {spec}")
        return Found([_file(path, follow) for path in files])
    if dataset := _hub_dataset(spec):
        return Found([dataset])
    raise DataError(f"{spec[:200]} does not exist; {NAMES}")


def has_wildcard(spec: str) -> bool:
    """Whether a text may stand for several files by a pattern."""
    return any(mark in spec for mark in "*?[")


def _path_and_split(spec: str) -> tuple[Path, str | None]:
    path = Path(spec)
    stem, colon, split = spec.rpartition(":")
    if path.exists() or not colon:
        return path, None
    if Path(stem).is_file():
        raise DataError(f"{stem} is a file, which has no splits; write {stem}")
    if Path(stem).is_dir():
        return Path(stem), split
    return path, None


def _folder(path: Path, split: str | None, follow: bool) -> Found:
    if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
        return Found([DatasetFolder(path, split)])
    there = sorted(file for file in path.rglob("*") if not file.is_dir())
    visible = [
        file
        for file in there
        if not any(part.startswith(".") for part in file.relative_to(path).parts)
        and file.name not in ABOUT_DATA
    ]
    files = [file for file in visible if _format(file)]
    others = [str(file) for file in visible if OTHERS.search(file.name)]
    if not files and follow:
        return Found([])
    if not files:
        beside = f", but {', '.join(others[:SHOWN])}" if others else ""
        raise DataError(
            f"{path} holds no {READ.replace(' and', ' or')} file and is no dataset folder{beside}"
        )
    files = files_of_split(path, files, split)
    formats = {_format(file) for file in files}
    together = next(group for group in TOGETHER if formats & set(group))
    unread = [str(file) for file in files if _format(file) not in together]
    read = [_file(file, follow) for file in files if _format(file) in together]
    return Found(list[Source](read), unread + others)


def _format(path: Path) -> str | None:
    """The suffix that says how a file is read, if one does."""
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    suffix = next((suffix for suffix in FORMATS if plain.endswith(suffix)), None)
    return None if suffix == ".parquet" and plain != name else suffix


def _file(path: Path, follow: bool) -> FileSource:
    suffix = _format(path)
    if suffix is None:
        raise DataError(f"{path} is not one of {READ}; convert it, or name another file")
    if suffix == ".jsonl":
        return JsonLines(path, follow=follow)
    return FORMATS[suffix](path)


def _hub_dataset(spec: str) -> HubDataset | None:
    """The dataset of the hub that a text names, if it can be one."""
    dataset = HubDataset.parse(spec)
    if dataset is None:
        return None
    # What begins with a folder that is here was meant as a path.
    path = Path(dataset.repo)
    return None if _format(path) or path.parent.is_dir() else dataset
