"""Tables of comma-separated values: the first line names the columns.

A cell is text, and an empty one is null, except that

- in the columns of VALUES what is JSON is that value, a number, true, false, null, a list or an
  object; so are True, False and None, as Python writes them;
- in every other column a list of turns in JSON is those turns: `[{"role": ..., "content": ...}]`,
  or with `from` and `value`.

So the prompt `42` stays a text, and turns are never learned as the text of their JSON.
"""

import csv
from collections.abc import Iterator
from typing import Any

from fastslow.errors import DataError
from fastslow.streams.sources.file import FileSource, ends_in_the_middle, read_chunks
from fastslow.streams.sources.json_row import decode_value
from fastslow.streams.sources.pieces import lines_of
from fastslow.streams.sources.source import MAX_ROW, Row, Unreadable

VALUES = frozenset({
    "weight", "confidence", "label", "scores", "ranks", "score_chosen", "score_rejected",
    "win_rate_chosen", "win_rate_rejected", "completions", "messages", "verdicts", "truncated",
    "tools", "chat_template_kwargs", "history", "conversations", "answers", "preferred_output",
    "non_preferred_output",
})  # fmt: skip
"""Columns that hold something other than text."""
_TURN = ({"role", "content"}, {"from", "value"})
_PYTHON = {"True": True, "False": False, "None": None}


class CsvTable(FileSource):
    """A .csv file in UTF-8, compressed or not, with commas between cells and double quotes around
    those that need them. Rows are counted without the header."""

    def _rows(self, start: int) -> Iterator[tuple[int, Row]]:
        records = self._records()
        header = next(records, [])
        self._check_header(header)
        for number, cells in enumerate(records, 1):
            if number > start and cells:
                yield number, _row(header, cells)

    def _count(self) -> int:
        return max(0, sum(1 for _ in self._records()) - 1)

    def _records(self) -> Iterator[list[str]]:
        csv.field_size_limit(MAX_ROW)
        reader = csv.reader(self._lines(), strict=True)
        while True:
            try:
                record = next(reader, None)
            except csv.Error as error:
                if "unexpected end" in str(error):
                    raise ends_in_the_middle(self.path) from None
                raise DataError(
                    f"{self.path}:{reader.line_num}: not CSV ({error}), and where the next row "
                    'begins is not known; a quote inside quotes is written ""'
                ) from None
            if record is None:
                return
            yield record

    def _lines(self) -> Iterator[str]:
        for number, line in enumerate(lines_of(read_chunks(self.path)), 1):
            if line is None:
                raise DataError(f"{self.path}:{number}: the line is over {MAX_ROW >> 20} MiB")
            text = line.decode("utf-8", "surrogateescape")
            yield text.removeprefix("\ufeff") if number == 1 else text

    def _check_header(self, header: list[str]) -> None:
        twice = [name for name in dict.fromkeys(header) if name and header.count(name) > 1]
        if twice:
            raise DataError(
                f"{self.path} has more than one column {', '.join(map(repr, twice[:5]))}; each "
                "name may stand once"
            )
        other = next((mark for mark in ";\t|" if mark in "".join(header)), None)
        if len(header) == 1 and other:
            raise DataError(
                f"{self.path} seems to have {other!r} between its cells; write it with commas"
            )


def _row(header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        return Unreadable(f"{len(cells)} cells, where the header names {len(header)} columns")
    row: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        try:
            (name + cell).encode("utf-8")
        except UnicodeEncodeError:
            return Unreadable(f"the column {ascii(name)} is not UTF-8")
        if name:  # pandas writes its index under an empty name.
            value = _value(cell) if name in VALUES else _text_or_turns(cell)
            if isinstance(value, Unreadable):
                return Unreadable(f"the column {name!r}: {value.reason}")
            row[name] = value
    return row


def _value(cell: str) -> Any:
    """What a cell of VALUES says; what is no JSON stays text, which no such column takes."""
    text = cell.strip()
    if not text or text in _PYTHON:
        return _PYTHON.get(text)
    value = decode_value(text.encode())
    return cell if isinstance(value, Unreadable) else value


def _text_or_turns(cell: str) -> Any:
    start = "".join(cell[:32].split())
    if start.startswith(("[{'role':", "[{'content':", "[{'from':", "[{'value':")):
        return Unreadable("turns as Python prints them, not as JSON; write the rows as .jsonl")
    if start.startswith("[{") and _are_turns(turns := decode_value(cell.encode())):
        return turns
    return cell or None


def _are_turns(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(turn, dict) and any(keys <= turn.keys() for keys in _TURN) for turn in value
    )
