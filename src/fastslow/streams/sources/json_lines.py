"""Files of JSON lines: one row a line, whatever the line ends."""

from collections.abc import Iterator

from fastslow.streams.sources.file import FileSource, ends_in_the_middle, read_chunks
from fastslow.streams.sources.json_row import decode_row
from fastslow.streams.sources.pieces import lines_of
from fastslow.streams.sources.source import Row, Unreadable


class JsonLines(FileSource):
    """A .jsonl file, compressed or not; any line ending, with or without a byte order mark."""

    def _rows(self, start: int) -> Iterator[tuple[int, Row]]:
        for number, line in enumerate(lines_of(read_chunks(self.path)), 1):
            if number <= start or (line is not None and not line.strip()):
                continue
            row = decode_row(line)
            if isinstance(row, Unreadable) and _is_cut(line):
                raise ends_in_the_middle(self.path)
            yield number, row

    def _count(self) -> int:
        number, line = 0, None
        for number, line in enumerate(lines_of(read_chunks(self.path)), 1):  # noqa: B007
            pass
        if _is_cut(line) and isinstance(decode_row(line), Unreadable):
            raise ends_in_the_middle(self.path)
        return number


def _is_cut(line: bytes | None) -> bool:
    """Whether an undecodable line is half a row: an object begins, and the file ends first."""
    if line is None or line.endswith((b"\n", b"\r")):
        return False
    text = line.strip()
    return text.startswith((b"{", b"\xef\xbb\xbf{")) and not text.endswith(b"}")
