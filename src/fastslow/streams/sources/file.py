"""A file of rows: a regular one, compressed or not, that must stay the same while it is read."""

import codecs
import gzip
import hashlib
import stat
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, ClassVar

from fastslow.errors import DataError
from fastslow.streams.sources.source import Row

CHUNK = 1 << 20
PART = 1 << 20
"""Bytes at each end of a file that its fingerprint is made of."""
CHECK_EVERY = 256
"""Rows between two looks at whether the file is still the same."""

_KINDS = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
    stat.S_ISDIR: "a folder",
}


def file_fingerprint(path: Path, size: int | None = None) -> list[Any]:
    """A file's name, size and a hash of its first and last MiB: quick, and rarely the same.

    With a `size` the fingerprint of that many bytes at its beginning.
    """
    digest = hashlib.sha256()
    size = path.stat().st_size if size is None else size
    with path.open("rb") as file:
        digest.update(file.read(min(size, PART)))
        file.seek(max(0, size - PART))
        digest.update(file.read(min(size, PART)))
    return [path.name, size, digest.hexdigest()]


def folder_fingerprint(name: str) -> list[Any]:
    """Of the weights, configuration, tokenizer and chat template of a model or an adapter; a hub id
    is its own fingerprint."""
    kinds = (".safetensors", ".json", ".jinja")
    return [
        file_fingerprint(path) for path in sorted(Path(name).glob("*")) if path.name.endswith(kinds)
    ] or [name]


class Stamp:
    """What tells that a file was changed since it was opened: its size and time of change.

    Raises DataError for what cannot be read or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size, self._changed_ns = self._now()

    @property
    def fits(self) -> bool:
        """Whether the file was not touched since."""
        return self._now() == (self.size, self._changed_ns)

    def check(self) -> None:
        """Raises DataError where the file is no longer what it was."""
        if not self.fits:
            raise DataError(
                f"{self._path} changed while it was in use (it had {self.size} bytes when it was "
                f"opened and has {self._now()[0]} now), so its rows are no longer those that were "
                "read; put the file back and run the same command to resume, or start over in "
                "another output_dir"
            )

    def _now(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise DataError(f"{self._path} cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode):
            kind = next((name for is_kind, name in _KINDS.items() if is_kind(found.st_mode)), "")
            raise DataError(
                f"{self._path} is {kind or 'special'}, not a regular file, and cannot be read "
                f"again to resume; pipe it in and name - instead: data.train=- < {self._path}"
            )
        return found.st_size, found.st_mtime_ns


class FileSource(ABC):
    """A source that reads one file from its beginning as often as it is asked."""

    live: ClassVar[bool] = False
    rereadable: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stamp = Stamp(path)

    @property
    def name(self) -> str:
        """The path as it was given."""
        return str(self.path)

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        """As every Source. A change of the file is noticed before its rows are a whole block."""
        self._check_same()
        try:
            for number, row in self._rows(start):
                if number % CHECK_EVERY == 0:
                    self._check_same()
                yield number, row
        except DataError:
            self._check_same()  # A file that is being rewritten looks damaged; say the cause.
            raise
        self._check_same()

    def count(self) -> int:
        """Number of rows."""
        self._check_same()
        return self._count()

    def fingerprint(self) -> list[Any]:
        """Name, size and hash."""
        return file_fingerprint(self.path)

    def _check_same(self) -> None:
        """Raises DataError where its rows are no longer those that were there when it was
        opened."""
        self.stamp.check()

    @abstractmethod
    def _rows(self, start: int) -> Iterator[tuple[int, Row]]: ...

    @abstractmethod
    def _count(self) -> int: ...


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed. Raises DataError where it cannot be read."""
    with _opened(path) as raw:
        return raw.read(2) == b"\x1f\x8b"


def read_chunks(path: Path) -> Iterator[bytes]:
    """The text of a file in chunks of bytes, decompressed where it is gzip.

    Raises DataError where it cannot be read, is damaged or ends in the middle, or is no UTF-8.
    """
    packed = is_gzip(path)
    with _opened(path) as raw:
        stream: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        first = True
        while chunk := _next_chunk(stream, path):
            if first:
                check_encoding(chunk, str(path))
            first = False
            yield chunk


def read_part(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a file between two places, in chunks; raises as `read_chunks`."""
    with _opened(path) as raw:
        raw.seek(start)
        while start < end and (chunk := raw.read(min(CHUNK, end - start))):
            if not start:
                check_encoding(chunk, str(path))
            start += len(chunk)
            yield chunk


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _next_chunk(stream: Any, path: Path) -> bytes:
    try:
        return bytes(stream.read(CHUNK))
    except EOFError:
        raise ends_in_the_middle(path) from None
    except (zlib.error, OSError) as error:
        raise DataError(f"{path} is damaged and cannot be read to its end: {error}") from None


def ends_in_the_middle(path: Path) -> DataError:
    """The error of a file that is not whole."""
    return DataError(
        f"{path} ends in the middle, as a download does that was interrupted; get the file again"
    )


def check_encoding(start: bytes, name: str) -> None:
    """Raises DataError where the first bytes say that what follows is UTF-16 or UTF-32."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        raise DataError(
            f"{name} is UTF-16 or UTF-32, but rows are read as UTF-8; convert it, for instance "
            "with iconv -f UTF-16 -t UTF-8"
        )
