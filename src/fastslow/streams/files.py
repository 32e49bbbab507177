"""Files, folders, hub ids and standard input to numbered rows, one at a time.

Rows are read lazily: a compressed file of any size needs memory for one row. A row that cannot be
decoded gives an `Unreadable` with its reason; the rows after it are still read.
"""

import glob
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol, runtime_checkable

from fastslow.errors import DataError
from fastslow.streams.jsonl import Row, decode_lines
from fastslow.streams.live import StandardInput, Waiting

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


def file_fingerprint(path: Path) -> list[Any]:
    """A file's name, size and a hash of its first and last MiB: quick, and rarely the same."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as file:
        digest.update(file.read(1 << 20))
        file.seek(max(0, size - (1 << 20)))
        digest.update(file.read())
    return [path.name, size, digest.hexdigest()]


class Source(Protocol):
    """Something with rows in a fixed order."""

    live: ClassVar[bool]
    """Whether rows arrive over time, so that reading may block."""
    rereadable: ClassVar[bool]
    """Whether rows can be read more than once in this process."""

    @property
    def name(self) -> str:
        """Names the source in messages; rows are `name:number`, numbers from 1."""
        ...

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        """Numbered rows after the first `start`; blank lines have a number but do not come out."""
        ...

    def count(self) -> int | None:
        """Number of rows, or None if unknown without reading."""
        ...

    def fingerprint(self) -> list[Any]:
        """Changes whenever a row number may refer to another row."""
        ...


def open_sources(specs: list[str]) -> list[Source]:
    """The sources for files, directories, globs, dataset folders, hub ids or `-`.

    Raises DataError if one matches nothing.
    """
    return [source for spec in specs for source in _expand(spec)]


def _expand(spec: str) -> list[Source]:
    if spec == "-":
        return [StandardInput()]
    path, split = Path(spec), "train"
    if not path.exists() and ":" in spec:
        stem, _, tail = spec.rpartition(":")
        if Path(stem).is_dir() or _is_hub_id(stem):
            path, split = Path(stem), tail
    if path.is_dir():
        if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
            return [DatasetFolder(path, split)]
        files = sorted(p for p in path.rglob("*") if p.name.endswith(SUFFIXES))
        if not files:
            raise DataError(f"{spec} holds no {', '.join(SUFFIXES)} file and is no dataset folder")
        return [_file(p) for p in files]
    if path.exists():
        return [_file(path)]
    if any(mark in spec for mark in "*?["):
        found = [Path(p) for p in sorted(glob.glob(spec, recursive=True))]
        if not found:
            raise DataError(f"no file matches {spec}")
        return [_file(p) for p in found]
    if _is_hub_id(str(path)):
        return [HubDataset(str(path), split)]
    raise DataError(f"{spec} does not exist; give a file, directory, glob, hub id or -")


def _file(path: Path) -> Source:
    if path.name.endswith(".parquet"):
        return ParquetFile(path)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return JsonLines(path)
    raise DataError(f"{path} is not one of {', '.join(SUFFIXES)}")


def _is_hub_id(text: str) -> bool:
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text):
        return False
    # What begins with a folder that is here was meant as a path.
    return not text.endswith((*SUFFIXES, ".json", ".csv")) and not Path(text).parent.is_dir()


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A .jsonl file, compressed or not; any line ending, with or without a byte order mark."""

    live: ClassVar[bool] = False
    rereadable: ClassVar[bool] = True

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def _open(self) -> IO[bytes]:
        try:
            raw = self.path.open("rb")
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}") from None
        if self.path.name.endswith(".gz"):
            return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
        return raw

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        with self._open() as stream:
            yield from decode_lines(stream, start)

    def count(self) -> int:
        lines, last = 0, b"\n"
        with self._open() as stream:
            try:
                while chunk := stream.read(1 << 20):
                    lines += chunk.count(b"\n")
                    last = chunk
            except (EOFError, zlib.error, gzip.BadGzipFile):
                pass  # `rows` reports the damage at its row.
        return lines + (not last.endswith(b"\n"))

    def fingerprint(self) -> list[Any]:
        return file_fingerprint(self.path)


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """A .parquet file, read in batches of rows."""

    live: ClassVar[bool] = False
    rereadable: ClassVar[bool] = True

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def _open(self) -> Any:
        import pyarrow
        import pyarrow.parquet

        try:
            return pyarrow.parquet.ParquetFile(self.path)
        except (OSError, pyarrow.ArrowInvalid) as error:
            raise DataError(f"{self.path} cannot be read as parquet: {error}") from None

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        file = self._open()
        number, first_group = 0, 0
        while first_group < file.num_row_groups:
            size = file.metadata.row_group(first_group).num_rows
            if number + size > start:
                break
            number += size
            first_group += 1
        groups = range(first_group, file.num_row_groups)
        batches = file.iter_batches(batch_size=256, row_groups=list(groups))
        while True:
            try:
                batch = next(batches, None)
            except OSError as error:
                raise DataError(f"{self.path} is damaged after row {number}: {error}") from None
            if batch is None:
                return
            for row in batch.to_pylist():
                number += 1
                if number > start:
                    yield number, row

    def count(self) -> int:
        return int(self._open().metadata.num_rows)

    def fingerprint(self) -> list[Any]:
        return file_fingerprint(self.path)


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """A folder written by `datasets.Dataset.save_to_disk`, or one split of a DatasetDict."""

    live: ClassVar[bool] = False
    rereadable: ClassVar[bool] = True

    path: Path
    split: str

    @property
    def name(self) -> str:
        return str(self.path)

    def _load(self) -> Any:
        import datasets

        try:
            loaded = datasets.load_from_disk(str(self.path))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} cannot be read as a dataset: {error}") from None
        if not isinstance(loaded, datasets.DatasetDict):
            return loaded
        if self.split not in loaded:
            raise DataError(
                f"{self.path} has no split {self.split!r}; it has {', '.join(loaded)}: write "
                f"{self.path}:SPLIT"
            )
        return loaded[self.split]

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        data = self._load()
        for number in range(start, len(data)):
            yield number + 1, data[number]

    def count(self) -> int:
        return len(self._load())

    def fingerprint(self) -> list[Any]:
        return [self.path.name, self.split, self.count()]


@dataclass(frozen=True, slots=True)
class HubDataset:
    """A dataset of the hub, streamed."""

    live: ClassVar[bool] = False
    rereadable: ClassVar[bool] = True

    repo: str
    split: str

    @property
    def name(self) -> str:
        return f"{self.repo}:{self.split}"

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        import datasets

        try:
            data = datasets.load_dataset(self.repo, split=self.split, streaming=True)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.repo} is neither a path here nor a dataset that can be reached: {error}"
            ) from None
        yield from enumerate(data.skip(start), start + 1)

    def count(self) -> None:
        return None

    def fingerprint(self) -> list[Any]:
        return [self.repo, self.split]


@runtime_checkable
class LiveSource(Source, Protocol):
    """A source whose rows come as they are made."""

    def poll(self, start: int = 0) -> Iterator[tuple[int, Row | Waiting]]:
        """As `rows`, with WAITING whenever nothing has come for POLL_S."""
        ...
