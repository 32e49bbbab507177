"""Prompts alone, from rows that may hold nothing else."""

from collections.abc import Iterator

from fastslow.errors import DataError
from fastslow.records import Prompt
from fastslow.streams.columns import RowError
from fastslow.streams.formats import read_prompt
from fastslow.streams.sources import Source, Unreadable


def read_prompts(sources: list[Source], *, domain: str | None = None) -> Iterator[Prompt]:
    """The prompt of each row, given or shared by its responses.

    Raises DataError at the first row without one.
    """
    for source in sources:
        for number, row in source.rows():
            where = f"{source.name}:{number}"
            if isinstance(row, Unreadable):
                raise DataError(f"{where}: {row.reason}")
            try:
                yield read_prompt(row, source=where, domain=domain)
            except RowError as error:
                raise DataError(f"{where}: the prompt cannot be read: {error}") from None
