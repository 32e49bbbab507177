"""What a user may hand over as data: rows, a datasets.Dataset, an iterator, or paths."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from fastslow.errors import DataError
from fastslow.records import Demonstration, Pair, Ranking, Rating
from fastslow.streams import Source, Unreadable, open_sources, row_of

EXAMPLES = (Pair, Ranking, Rating, Demonstration)
ALLOWED = (
    "give an iterable of rows (a list, a generator), a datasets.Dataset, or paths (.jsonl, "
    ".json, .csv, .parquet, folders, globs)"
)


class Rows:
    """A source of rows in memory, read by number.

    Args:
        rows: a list, or anything with a length and an index, as a datasets.Dataset.
        name: names it in messages; rows are `name:number`, numbers from 1.
    """

    live: ClassVar[bool] = False
    rereadable: ClassVar[bool] = True

    def __init__(self, rows: Any, name: str = "rows") -> None:
        self._rows = rows
        self._name = name

    @property
    def name(self) -> str:
        """Names the source in messages."""
        return self._name

    def rows(self, start: int = 0) -> Iterator[tuple[int, Any]]:
        """Numbered rows after the first `start`."""
        for index in range(start, len(self._rows)):
            yield index + 1, as_row(self._rows[index])

    def count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def fingerprint(self) -> list[Any]:
        """Name and length: nothing is written of rows in memory."""
        return [self._name, len(self._rows)]


class PassingRows:
    """A source of rows that come once, from an iterator, each read when it is asked for."""

    live: ClassVar[bool] = True
    rereadable: ClassVar[bool] = False

    def __init__(self, rows: Iterable[Any], name: str = "rows") -> None:
        self._rows = iter(rows)
        self._name = name
        self._read = 0

    @property
    def name(self) -> str:
        """Names the source in messages."""
        return self._name

    def rows(self, start: int = 0) -> Iterator[tuple[int, Any]]:
        """Numbered rows; those before `start` must have been read."""
        for row in self._rows:
            self._read += 1
            yield self._read, as_row(row)

    def count(self) -> None:
        """Not known before the end."""
        return None

    def fingerprint(self) -> list[Any]:
        """Its name."""
        return [self._name]


def as_row(item: Any) -> Any:
    """A row as streams read it."""
    if isinstance(item, EXAMPLES):
        return row_of(item)
    if isinstance(item, Mapping):
        return item
    return Unreadable(f"a row must be a mapping, not {type(item).__name__}")


def is_frame(data: Any) -> bool:
    """Whether it is a DataFrame of pandas or polars, which gives columns where lists give rows."""
    return hasattr(data, "columns") and hasattr(data, "to_dict")


def sources_of(data: Any, *, name: str = "rows") -> list[Source]:
    """The sources that some data stand for.

    Raises DataError where they stand for none, with what is allowed.
    """
    if isinstance(data, (str, Path)):
        return open_sources([str(data)])
    if is_frame(data):
        raise DataError(
            f"{name}: got a {type(data).__name__}; give datasets.Dataset.from_pandas(it), or "
            "from_polars"
        )
    if isinstance(data, Mapping):
        raise DataError(
            f"{name}: got one mapping with {', '.join(map(str, list(data)[:4]))}; {ALLOWED}. Of a "
            "DatasetDict give one split, of one row a list of it"
        )
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        if not len(data):
            raise DataError(f"{name}: got no rows; {ALLOWED}")
        if isinstance(data, Sequence) and isinstance(data[0], (str, Path)):
            return open_sources([str(item) for item in data])
        return [Rows(data, name)]
    if isinstance(data, Iterable):
        return [PassingRows(data, name)]
    raise DataError(f"{name}: got {type(data).__name__}; {ALLOWED}")


def numbered_rows(data: Any, *, name: str = "rows") -> Iterator[tuple[str, Any]]:
    """Each row with where it stands, as `name:number`; what is no row comes as Unreadable."""
    for source in sources_of(data, name=name):
        for number, row in source.rows():
            yield f"{source.name}:{number}", row


def placed_rows(data: Any) -> Iterator[tuple[str, Any]]:
    """Each Example of a list with its source, or each row with where it stands."""
    if isinstance(data, (list, tuple)) and all(isinstance(item, EXAMPLES) for item in data):
        return ((item.source, item) for item in data)
    return numbered_rows(data)
