"""A disk whose power fails: what was not forced to it may be lost, in any part and any order.

A VFS of SQLite writes to real files and remembers, of each, what was on the disk for certain. At a
chosen operation the power fails; then every sector written since the last sync is kept or lost by
chance, and a file that had never been synced may be gone. SQLAlchemy reaches it through the few
calls of Python's sqlite3 that its dialect needs, made of apsw's.
"""

import sqlite3
from pathlib import Path

import apsw

SECTOR = 512


class Power:
    """The supply of one machine: it fails at the operation with this number."""

    def __init__(self, fails_at):
        self.fails_at, self.operations, self.off = fails_at, 0, False
        self.files = {}

    def use(self):
        self.operations += 1
        self.off = self.off or self.operations >= self.fails_at
        if self.off:
            raise apsw.IOError("the power is off")

    def fail(self, draw):
        """Leave on the real disk what a power cut could have left."""
        self.off = True
        for path, file in self.files.items():
            Path(path).write_bytes(file.after_a_cut(draw))


class Contents:
    """A file's bytes, and those that are on the disk for certain."""

    def __init__(self, data):
        self.now, self.certain = bytearray(data), bytes(data)

    def write(self, data, offset):
        missing = offset + len(data) - len(self.now)
        self.now.extend(bytes(max(0, missing)))
        self.now[offset : offset + len(data)] = data

    def after_a_cut(self, draw):
        size = draw.choice((len(self.certain), len(self.now)))
        new, old = bytes(self.now).ljust(size, b"\0"), self.certain.ljust(size, b"\0")
        parts = []
        for start in range(0, size, SECTOR):
            kept = draw.choice((new, old))
            parts.append(kept[start : min(size, start + SECTOR)])
        return b"".join(parts)


class Disk(apsw.VFS):
    """SQLite's file system on that supply."""

    def __init__(self, name, power):
        super().__init__(name, base="")
        self.power = power

    def xOpen(self, name, flags):
        if name is None:
            return super().xOpen(name, flags)  # Of one transaction: nobody looks for it later.
        return File(name, flags, self.power)

    def xDelete(self, name, sync):
        self.power.use()
        super().xDelete(name, sync)
        self.power.files.pop(name, None)


class File(apsw.VFSFile):
    """One file of it."""

    def __init__(self, name, flags, power):
        super().__init__("", name, flags)
        self.power = power
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else name
        path = Path(self.path)
        data = path.read_bytes() if path.exists() else b""
        self.contents = power.files.setdefault(self.path, Contents(data))

    def xWrite(self, data, offset):
        self.power.use()
        super().xWrite(data, offset)
        self.contents.write(data, offset)

    def xTruncate(self, size):
        self.power.use()
        super().xTruncate(size)
        del self.contents.now[size:]

    def xSync(self, flags):
        self.power.use()
        super().xSync(flags)
        self.contents.certain = bytes(self.contents.now)


class Connection:
    """What SQLAlchemy's dialect asks of a connection of sqlite3."""

    isolation_level = None

    def __init__(self, path, vfs):
        self.own = apsw.Connection(path, vfs=vfs)
        # Without shared memory, which this file system has not, a WAL needs one owner.
        self.own.execute("PRAGMA locking_mode=EXCLUSIVE")

    def cursor(self):
        return Cursor(self.own)

    def execute(self, statement, parameters=()):
        cursor = self.cursor()
        cursor.execute(statement, parameters)
        return cursor

    def commit(self):
        if self.own.in_transaction:
            self.execute("COMMIT")

    def rollback(self):
        if self.own.in_transaction:
            self.execute("ROLLBACK")

    def create_function(self, *_, **__):
        pass

    def close(self):
        self.own.close()


class Cursor:
    """The same of a cursor."""

    def __init__(self, connection):
        self.connection, self.rows, self.description = connection, [], None
        self.rowcount, self.lastrowid, self.arraysize = -1, None, 1

    def execute(self, statement, parameters=()):
        before = self.connection.total_changes()
        try:
            cursor = self.connection.cursor()
            cursor.exec_trace = self._describe
            self.rows = list(cursor.execute(statement, parameters or None))
        except apsw.ConstraintError as error:
            raise sqlite3.IntegrityError(str(error)) from error
        except apsw.Error as error:
            raise sqlite3.OperationalError(str(error)) from error
        self.rowcount = self.connection.total_changes() - before
        self.lastrowid = self.connection.last_insert_rowid()

    def _describe(self, cursor, statement, parameters):
        columns = cursor.get_description()
        self.description = tuple((name, *[None] * 6) for name, _ in columns) or None
        return True

    def executemany(self, statement, rows):
        for row in rows:
            self.execute(statement, row)

    def fetchall(self):
        rows, self.rows = self.rows, []
        return rows

    def fetchone(self):
        return self.rows.pop(0) if self.rows else None

    def fetchmany(self, size=None):
        size = size or self.arraysize
        rows, self.rows = self.rows[:size], self.rows[size:]
        return rows

    def close(self):
        self.rows = []
