"""What rows hold where none is skipped in silence: prompts, or whole examples."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from fastslow.errors import DataError
from fastslow.records import Example, Prompt
from fastslow.streams.columns import RowError
from fastslow.streams.formats import NO_COLUMNS, read_prompt, read_row
from fastslow.streams.sources import Source, Unreadable

T = TypeVar("T")


def read_prompts(
    sources: list[Source],
    *,
    domain: str | None = None,
    columns: Mapping[str, str] = NO_COLUMNS,
) -> Iterator[Prompt]:
    """The prompt of each row, given or shared by its responses; it may hold nothing else. Columns
    as of `read_prompt`.

    Raises DataError at the first row without one.
    """
    yield from _each(sources, partial(read_prompt, domain=domain, columns=columns), "prompt")


def read_examples(
    sources: list[Source], *, columns: Mapping[str, str] = NO_COLUMNS
) -> Iterator[Example]:
    """The example in each row, of whatever kind. Columns as of `read_row`.

    Raises DataError at the first row without one.
    """
    yield from _each(sources, partial(read_row, columns=columns), "example")


def fault_of(row: Mapping[str, Any]) -> str | None:
    """Why no example can be made of a row, if none can."""
    try:
        read_row(row, source="row")
    except RowError as error:
        return str(error)
    return None


def _each(sources: list[Source], read: Callable[..., T], what: str) -> Iterator[T]:
    for source in sources:
        for number, row in source.rows():
            where = f"{source.name}:{number}"
            if isinstance(row, Unreadable):
                raise DataError(f"{where}: {row.reason}")
            try:
                yield read(row, source=where)
            except RowError as error:
                raise DataError(f"{where}: the {what} cannot be read: {error}") from None
