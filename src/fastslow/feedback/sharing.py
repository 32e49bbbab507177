"""Coordinates processes that share a PostgreSQL store, by its advisory locks.

A lock ends with its connection, so a process that dies leaves none behind.
"""

import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DBAPIError

from fastslow.feedback.store_errors import store_errors


def takes_turn(connection: Connection, job: str) -> bool:
    """Take a job until the transaction ends; False if another connection has it."""
    taken = connection.scalar(select(func.pg_try_advisory_xact_lock(_key(job))))
    return bool(taken)


class Holds:
    """Holds of this process on shared things, such as adapters of one engine: the last process to
    drop one ends it. Threads may share it.

    Args:
        engine: a PostgreSQL database that all processes share; None if there are no others.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._names = set[str]()
        self._lock = threading.Lock()

    def take(self, name: str) -> None:
        """Hold something; waits while another process ends it."""
        with self._lock:
            if name not in self._names:
                self._ask(func.pg_advisory_lock_shared, name)
                self._names.add(name)

    def drop(self, name: str, end: Callable[[], None]) -> None:
        """Drop something. If nobody else holds it, call `end`; nobody takes it meanwhile."""
        with self._lock:
            if name not in self._names:
                return
            self._names.discard(name)
            # If two processes drop it at once, at least one finds it free.
            self._ask(func.pg_advisory_unlock_shared, name)
            if not self._ask(func.pg_try_advisory_lock, name):
                return
            try:
                end()
            finally:
                self._ask(func.pg_advisory_unlock, name)

    def close(self) -> None:
        """Drop all holds."""
        with self._lock:
            self._names.clear()
            self._leave()

    def _ask(self, function: Callable[[Any], Any], name: str) -> bool:
        """Call a database function, on a new connection if the old one was lost."""
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
    """The number of a lock, different for stores in other schemas."""
    return func.hashtextextended(func.concat(func.current_schema(), " ", name), 0)
