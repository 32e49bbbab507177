"""One feedback store: a SQLite file, or a PostgreSQL database by URL.

One thread does all writes and commits those that wait as one transaction (group commit). So each of
thousands of votes a second is on disk before it is acknowledged.

SQLite before 3.51.3 can damage a WAL when two connections write or checkpoint at once. So a lock
file is held around every write transaction and every checkpoint, and no checkpoint is automatic.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
)

from fastslow.atomic_io import OWN
from fastslow.disk_errors import disk_errors
from fastslow.errors import ConfigError, StateError
from fastslow.feedback.migrate import migrate
from fastslow.feedback.sharing import Holds, takes_turn
from fastslow.feedback.store_errors import PATIENCE, first_line, store_errors

FILE = "store.db"
OF_OTHERS = ("config.json", "config.yaml", "adapter_config.json")
"""Files of a model, a run and an adapter, which no live folder has."""
GROUP = 512
"""Most writes that share a commit."""
CHECKPOINT_EVERY = 200
"""Commits after which the WAL is copied into the database, as it would grow without end."""

IN_THE_WAY = ("40001", "40P01")
"""PostgreSQL's codes for a transaction that it ended because of another process's."""
TRIES = 5
PAUSE = 0.02
"""Seconds before the second try, so that the other transaction can end; later pauses are longer."""
KEEPALIVE = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}
"""Seconds before PostgreSQL's first keepalive and between two, and how many it sends: locks of a
machine that went down are free after a minute."""
T = TypeVar("T")


@dataclass(slots=True)
class _Waiting:
    """A queued write, and the future for its result."""

    work: Callable[[Connection], Any]
    future: Future[Any]


class Store:
    """An open store. Threads may share it; processes each open their own.

    Args:
        where: a folder, in which `store.db` is created if needed, or a URL such as
            `postgresql+psycopg://user:password@host/name`.

    An older schema is migrated. Raises ConfigError for a folder or URL that cannot be used,
    StateError for a store of a newer version, or one that cannot be opened.
    """

    def __init__(self, where: str | Path) -> None:
        url = _url(where)
        self._file = (
            Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
        )
        self._engine = _engine(url)
        # This option tells the listener in _sqlite_engine which BEGIN to use.
        self._writing = self._engine.execution_options(writes=True)
        self._lock = FileLock(f"{self._file}.lock", timeout=PATIENCE) if self._file else None
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._commits = 0
        with store_errors(), self._locked(), self._writing.connect() as connection:
            migrate(connection)
        self._thread = threading.Thread(target=self._run, name="feedback-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read-only connection to one snapshot of the store."""
        with store_errors(), self._engine.connect() as connection, connection.begin():
            yield connection

    def submit(self, work: Callable[..., T], /, *args: Any, **named: Any) -> "Future[T]":
        """Queue `work(connection, ...)` for the writing thread; the future has its result once that
        is on disk.

        If it raises, the future has the exception and nothing of it is written. After a conflict
        with another process's write it is called again.
        """
        future: Future[T] = Future()
        if not self._thread.is_alive():
            raise StateError("the store is closed; open it again")
        self._queue.put(_Waiting(lambda connection: work(connection, *args, **named), future))
        return future

    def write(self, work: Callable[..., T], /, *args: Any, **named: Any) -> T:
        """`submit`, and wait for the result."""
        return self.submit(work, *args, **named).result()

    @contextmanager
    def turn(self, job: str) -> Iterator[bool]:
        """True if this process has a job now; of those that share a store, one at a time has it."""
        if self._file is None:
            with self.read() as connection:
                yield takes_turn(connection, job)
            return
        lock = FileLock(f"{self._file}.{job}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def holds(self) -> Holds:
        """Holds of this process on things that it shares with the store's other processes. With
        SQLite there are no others."""
        return Holds(None if self._file else self._engine)

    def close(self) -> None:
        """Finish waiting writes, then close. The store can be opened again."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        with self._locked():  # The last connection to go checkpoints.
            self._engine.dispose()

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            self._commit(group)

    def _next_group(self) -> list[_Waiting] | None:
        """All waiting writes, at least one; None once the store is to close."""
        first = self._queue.get()
        if first is None:
            return None
        group = [first]
        while len(group) < GROUP:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._queue.put(None)
                break
            group.append(more)
        return group

    def _commit(self, group: list[_Waiting]) -> None:
        # From here on a write cannot be cancelled; writes cancelled before are dropped.
        group = [write for write in group if write.future.set_running_or_notify_cancel()]
        outcomes: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with store_errors(), self._locked():
                outcomes = self._written(group)
                self._checkpoint()
        except BaseException as error:
            outcomes = [(write.future, None, error) for write in group]
        for future, result, failure in outcomes:
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)

    def _written(
        self, group: list[_Waiting]
    ) -> list[tuple[Future[Any], Any, BaseException | None]]:
        """The outcome of each write, all in one transaction. The transaction is retried if it
        conflicts with another process's."""
        tries = 0
        while True:
            tries += 1
            try:
                with self._writing.begin() as connection:
                    return [(write.future, *_outcome(connection, write.work)) for write in group]
            except DBAPIError as error:
                if tries == TRIES or getattr(error.orig, "sqlstate", None) not in IN_THE_WAY:
                    raise
            time.sleep(PAUSE * tries)

    def _checkpoint(self) -> None:
        self._commits += 1
        if self._file and self._commits % CHECKPOINT_EVERY == 0:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    def _locked(self) -> AbstractContextManager[Any]:
        return self._lock or nullcontext()


def _outcome(
    connection: Connection, work: Callable[[Connection], Any]
) -> tuple[Any, BaseException | None]:
    """The result of a write, or the error if nothing of it is kept."""
    refused = ""
    for _ in range(2):  # If another process was first, the second try sees what it wrote.
        try:
            with connection.begin_nested():
                return work(connection), None
        except (IntegrityError, DataError) as error:
            refused = first_line(error)
        except DBAPIError:
            raise
        except Exception as error:
            return None, error
    return None, StateError(f"the store refused a write: {refused}")


def _url(where: str | Path) -> URL:
    if isinstance(where, Path) or "://" not in where:
        file = Path(where) / FILE
        if not file.exists() and any((file.parent / name).exists() for name in OF_OTHERS):
            raise ConfigError(
                f"{file.parent} is the folder of a model or a run; keep votes in a separate folder"
            )
        with disk_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # It holds people's texts; SQLite gives its other files this file's mode.
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY, OWN))
        return URL.create("sqlite", database=str(file))
    try:
        url = make_url(where)
    except ArgumentError:
        raise ConfigError("the store's URL is malformed; use postgresql+psycopg://...") from None
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(
            f"the store cannot be {url.get_backend_name()!r}; use a folder (SQLite), or "
            "postgresql+psycopg://user:password@host/name"
        )
    return url


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    try:
        engine = create_engine(url, pool_pre_ping=True)
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigError(
            f"the store's database needs a driver that is not installed ({error}); "
            "pip install 'fastslow[postgres]' and write postgresql+psycopg://..."
        ) from None

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            for name, number in KEEPALIVE.items():
                cursor.execute(f"SET {name} = {number}")
        connection.commit()

    return engine


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": 60, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # Keeps Python's module from beginning transactions.
        for pragma in (
            "journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0", "mmap_size=0",
            "foreign_keys=ON", "busy_timeout=60000",
        ):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        # A deferred BEGIN that turns into a write fails at once if another connection writes.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
