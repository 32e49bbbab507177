"""Prompts alone, from rows that may hold nothing else."""

from collections.abc import Iterator

from fastslow.errors import DataError
from fastslow.records import Text
from fastslow.streams.files import Source, Unreadable
from fastslow.streams.formats import RowError, read_row, read_text


def read_prompts(sources: list[Source]) -> Iterator[Text]:
    """The prompt of each row, given or shared by its responses.

    Raises DataError at the first row without one.
    """
    for source in sources:
        for number, row in source.rows():
            where = f"{source.name}:{number}"
            if isinstance(row, Unreadable):
                raise DataError(f"{where}: {row.reason}")
            try:
                if row.get("prompt") is not None:
                    yield read_text(row["prompt"], "prompt")
                else:
                    yield read_row(row, source=where).prompt
            except RowError as error:
                raise DataError(f"{where}: no prompt can be read: {error}") from None
