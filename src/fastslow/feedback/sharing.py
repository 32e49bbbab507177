"""What processes that share a PostgreSQL store settle among themselves, by its advisory locks.

A lock ends with the connection that has it, so nothing is left behind by a process that dies.
"""

import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DBAPIError

from fastslow.feedback.store_errors import store_errors


def takes_turn(connection: Connection, job: str) -> bool:
    """Whether no other connection has a job; this one has it until its transaction ends."""
    found = connection.scalar(select(func.pg_try_advisory_xact_lock(_key(job))))
    return bool(found)


class Holds:
    """What this process uses of something that others use too, as adapters of one engine: the last
    one to drop it ends it. Threads may share it.

    Args:
        engine: of a PostgreSQL database that all of them share; None where there are no others.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._names = set[str]()
        self._lock = threading.Lock()

    def take(self, name: str) -> None:
        """Use something; waits while somebody ends it."""
        with self._lock:
            if name not in self._names:
                self._ask(func.pg_advisory_lock_shared, name)
                self._names.add(name)

    def drop(self, name: str, end: Callable[[], None]) -> None:
        """Use something no more; `end` is called if nobody does, and nobody takes it meanwhile."""
        with self._lock:
            if name not in self._names:
                return
            self._names.discard(name)
            # Of two that drop it at once, one at least finds it free.
            self._ask(func.pg_advisory_unlock_shared, name)
            if not self._ask(func.pg_try_advisory_lock, name):
                return
            try:
                end()
            finally:
                self._ask(func.pg_advisory_unlock, name)

    def close(self) -> None:
        """Hold nothing any more."""
        with self._lock:
            self._names.clear()
            self._leave()

    def _ask(self, function: Callable[[Any], Any], name: str) -> bool:
        """Call a function of the database; on a new connection, where the old one was lost."""
        if self._engine is None:
            return True
        call = select(function(_key(name)))
        with store_errors():
            try:
                return bool(self._open().scalar(call))
            except DBAPIError as error:
                self._leave()
                if not error.connection_invalidated:
                    raise
            return bool(self._open().scalar(call))

    def _open(self) -> Connection:
        assert self._engine is not None
        if self._connection is None:
            opened = self._engine.connect()
            self._connection = opened.execution_options(isolation_level="AUTOCOMMIT")
            for name in sorted(self._names):
                opened.execute(select(func.pg_advisory_lock_shared(_key(name))))
        return self._connection

    def _leave(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # A pool would keep it, and its locks, open.
            self._connection.close()
            self._connection = None


def _key(name: str) -> Any:
    """The number of a lock; stores in other schemas have their own."""
    return func.hashtextextended(func.concat(func.current_schema(), " ", name), 0)
