"""What people voted, rated and edited: the rows of a feedback store's ledger."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fastslow.errors import ConfigError, DataError
from fastslow.streams.sources.source import Row, Source

if TYPE_CHECKING:
    from fastslow.feedback import Store

FEEDBACK = "feedback:"
"""Begins the text of a feedback store: its folder or URL follows."""
HELD_OUT = ":held_out"


class Ledger:
    """The rows that a feedback store has admitted, numbered as they stand in its ledger.

    Rows that were taken back before they are read do not come out, and have their number still.

    Args:
        where: the store's folder or URL; with `:held_out` behind it the rows of the prompts that
            are never learned from come out, and only those.

    Raises DataError where there is no store, ConfigError for a URL that holds a password.
    """

    live: ClassVar[bool] = True
    rereadable: ClassVar[bool] = True

    def __init__(self, where: str) -> None:
        self._held_out = where.endswith(HELD_OUT)
        self._where = where.removesuffix(HELD_OUT)
        _check_place(self._where)
        self._newest = self._last()

    @property
    def name(self) -> str:
        """The store, as it was given."""
        return f"{FEEDBACK}{self._where}{HELD_OUT if self._held_out else ''}"

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        """As every Source; rows behind the one that was the last when it was opened come later."""
        from fastslow.feedback import export

        if start > self._newest:
            raise DataError(
                f"the ledger of {self.name} ends at {self._newest}, but rows up to {start} were "
                "read before; it was put back to an older state, and rows that people sent since "
                "may have the same numbers: restore the newer one, or start over in another "
                "output_dir"
            )
        while start < self._newest:
            with _store(self._where).read() as connection:
                page = export.export_page(connection, after=start)
            for row in page.rows:
                if row["seq"] <= self._newest and row["held_out"] == self._held_out:
                    yield row["seq"], row
            start = page.cursor

    def count(self) -> None:
        """Not known: rows can be taken back."""
        return None

    def fingerprint(self) -> list[Any]:
        """Which store it is, and where its ledger ended."""
        from fastslow.feedback import items

        with _store(self._where).read() as connection:
            return ["ledger", self._newest, items.store_id(connection)]

    def continues(self, before: list[Any]) -> bool:
        """As every GrowingSource."""
        kind, newest, store = self.fingerprint()
        return [before[0], before[2]] == [kind, store] and int(before[1]) <= newest

    def look(self) -> bool:
        """As every GrowingSource."""
        before, self._newest = self._newest, self._last()
        return self._newest > before

    def num_waiting(self) -> int:
        """Votes that are not in the ledger yet."""
        from fastslow.feedback import ledger

        with _store(self._where).read() as connection:
            return ledger.not_admitted(connection)

    def _last(self) -> int:
        from fastslow.feedback import ledger

        with _store(self._where).read() as connection:
            return ledger.last_seq(connection)


def waiting_votes(sources: Iterable[Source]) -> str:
    """The end of a message about sources without rows: how many votes will be rows."""
    count = sum(source.num_waiting() for source in sources if isinstance(source, Ledger))
    if not count:
        return ""
    return (
        f"; {count} votes are not admitted yet: `fastslow serve` or `fastslow learn` admits them, "
        "60 seconds after they were sent"
    )


def _check_place(where: str) -> None:
    if "://" not in where:
        from fastslow.feedback.store import FILE

        if not (Path(where).expanduser() / FILE).is_file():
            raise DataError(
                f"{FEEDBACK}{where[:200]} holds no {FILE}; give the folder of fastslow serve"
            )
    elif "@" in where and ":" in where.partition("://")[2].partition("@")[0]:
        raise ConfigError(
            "data.train: a URL with a password would stand in the run folder; leave it out and set "
            "PGPASSWORD, or keep it in ~/.pgpass"
        )


@lru_cache(maxsize=8)
def _store(where: str) -> "Store":
    """An open store for the whole process: it is looked at again and again."""
    from fastslow.feedback import Store

    return Store(where if "://" in where else Path(where).expanduser())
