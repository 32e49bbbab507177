"""Sources at whose end more is waited for: files that grow, new files, the ledger."""

from collections.abc import Sequence
from pathlib import Path

from fastslow.errors import DataError
from fastslow.streams.sources.expand import has_wildcard, open_sources
from fastslow.streams.sources.source import GrowingSource, Source, keys_of


class Followed:
    """The sources that some texts stand for, now and later.

    Args:
        specs: as `open_sources` takes them.
        kept: where standard input is kept.
    """

    def __init__(self, specs: Sequence[str], *, kept: Path | None = None) -> None:
        self._specs, self._kept = list(specs), kept
        # Others can come to folders and globs alone, and looking for them is not free.
        self._open_ended = any(Path(spec).is_dir() or has_wildcard(spec) for spec in specs)
        self.sources: list[Source] = self._opened()

    def look(self) -> bool:
        """Take in rows that were added and files that are new; whether there are any.

        Raises DataError where what was there is gone or no longer the same.
        """
        grown = [one.look() for one in self.sources if isinstance(one, GrowingSource)]
        return any(grown) | (self._open_ended and self._take_new())

    def _take_new(self) -> bool:
        known = dict(zip(keys_of(self.sources), self.sources, strict=True))
        now = self._opened()
        keys = keys_of(now)
        if gone := [key for key in known if key not in keys]:
            raise DataError(f"{gone[0]} is gone; restore it and run the same command to resume")
        self.sources = [known.get(key, source) for key, source in zip(keys, now, strict=True)]
        return len(self.sources) > len(known)

    def _opened(self) -> list[Source]:
        return open_sources(self._specs, follow=True, kept=self._kept)
