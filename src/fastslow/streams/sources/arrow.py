"""Rows of Arrow tables: parquet files, and folders that `datasets` wrote."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from fastslow.errors import DataError
from fastslow.streams.sources.file import FileSource, Stamp, file_fingerprint
from fastslow.streams.sources.source import MAX_ROW, TOO_LONG, Row, Unreadable

AT_ONCE = 256
"""Rows that are decoded together."""


class ParquetFile(FileSource):
    """A .parquet file, read in batches of rows."""

    def _open(self) -> Any:
        import pyarrow
        import pyarrow.parquet

        try:
            file = pyarrow.parquet.ParquetFile(self.path)
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{self.path} cannot be read as parquet: {brief(error)}") from None
        _check_names(file.schema_arrow.names, self.path)
        return file

    def _rows(self, start: int) -> Iterator[tuple[int, Row]]:
        import pyarrow

        file = self._open()
        number, first_group = 0, 0
        while first_group < file.num_row_groups:
            size = file.metadata.row_group(first_group).num_rows
            if number + size > start:
                break
            number += size
            first_group += 1
        groups = range(first_group, file.num_row_groups)
        batches = file.iter_batches(batch_size=AT_ONCE, row_groups=list(groups))
        while True:
            try:
                batch = next(batches, None)
            except (OSError, pyarrow.ArrowException) as error:
                raise DataError(
                    f"{self.path} is damaged after row {number}: {brief(error)}"
                ) from None
            if batch is None:
                return
            for row in rows_of(batch):
                number += 1
                if number > start:
                    yield number, row

    def _count(self) -> int:
        return int(self._open().metadata.num_rows)


class DatasetFolder:
    """A folder written by `datasets.Dataset.save_to_disk`, or one split of a DatasetDict.

    Args:
        path: the folder.
        split: which split; `train` of a DatasetDict and all of a Dataset if None.
    """

    live: ClassVar[bool] = False
    rereadable: ClassVar[bool] = True

    def __init__(self, path: Path, split: str | None) -> None:
        of_dict = (path / "dataset_dict.json").exists()
        self.path = path
        self.split = split or ("train" if of_dict else None)
        folder = path / str(self.split) if of_dict else path
        self._files = sorted(
            file for file in folder.glob("*") if file.suffix in (".arrow", ".json")
        )
        self._stamps = [Stamp(file) for file in self._files]

    @property
    def name(self) -> str:
        """The folder, and the split of a DatasetDict."""
        return f"{self.path}:{self.split}" if self.split else str(self.path)

    def _load(self) -> Any:
        import datasets
        import pyarrow

        try:
            loaded = datasets.load_from_disk(str(self.path))
        except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
            raise DataError(f"{self.path} cannot be read as a dataset: {brief(error)}") from None
        if isinstance(loaded, datasets.DatasetDict):
            if self.split not in loaded:
                raise DataError(
                    f"{self.path} has no split {self.split!r}; it has {', '.join(loaded)}: write "
                    f"{self.path}:SPLIT"
                )
            loaded = loaded[self.split]
        elif self.split is not None:
            raise DataError(
                f"{self.path} is one dataset without splits, so {self.split!r} names nothing in "
                f"it; write {self.path}"
            )
        _check_names(loaded.column_names, self.path)
        return loaded.with_format("arrow")

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        """As every Source."""
        data = self._load()
        for first in range(start, len(data), AT_ONCE):
            self._check_unchanged()
            yield from enumerate(rows_of(data[first : first + AT_ONCE]), first + 1)
        self._check_unchanged()

    def count(self) -> int:
        """Number of rows."""
        return len(self._load())

    def fingerprint(self) -> list[Any]:
        """The folder's name, the split, and name, size and hash of each file of it."""
        files = [file_fingerprint(path) for path in self._files]
        return [self.path.name, self.split, files]

    def _check_unchanged(self) -> None:
        for stamp in self._stamps:
            stamp.check()


def rows_of(table: Any) -> list[Row]:
    """The rows of a table or a batch; one that cannot be decoded is unreadable."""
    if table.nbytes <= MAX_ROW:
        # Bytes that are no UTF-8, times beyond Python's or in unknown zones: each has an exception
        # of its own. Row by row it shows which row it is.
        with suppress(Exception):
            return list(table.to_pylist())
    return [_single_row(table.slice(index, 1)) for index in range(table.num_rows)]


def _single_row(table: Any) -> Row:
    if table.nbytes > MAX_ROW:
        return TOO_LONG
    row = {}
    for name, column in zip(table.schema.names, table.columns, strict=True):
        try:
            row[name] = column[0].as_py()
        except Exception as error:
            what = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else brief(error)
            return Unreadable(
                f"the column {name!r} of type {str(column.type)[:80]} cannot be decoded ({what}); "
                "fix it, or leave it out of the file"
            )
    return row


def _check_names(names: list[str], path: Path) -> None:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataError(
            f"{path} has more than one column {', '.join(map(repr, twice[:5]))}; each name may "
            "stand once"
        )


def brief(error: Exception) -> str:
    """The first line of an exception of a library's, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
