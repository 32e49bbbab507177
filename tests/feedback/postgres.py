"""A PostgreSQL server of the tests' own, on a socket in a temporary folder."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

NUMBERS = itertools.count()
PLACES = ("/usr/lib/postgresql", "/opt/homebrew/opt/postgresql", "/usr/local/opt/postgresql")


@contextmanager
def running() -> Iterator[str]:
    """URL of a server's database; skips without a server."""
    programs = _programs()
    if programs is None:
        pytest.skip("NO POSTGRESQL: install it to run the store's tests on it")
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        data = Path(folder) / "data"
        as_user = _as_other_user(Path(folder))
        _run([*as_user, programs / "initdb", "-D", data, "-U", "tests", "-A", "trust", "--no-sync"])
        options = f"-k {folder} -c listen_addresses='' -c max_connections=200 -c fsync=off"
        control = [*as_user, programs / "pg_ctl", "-D", data, "-w"]
        _run([*control, "-l", Path(folder) / "log", "-o", options, "start"])
        try:
            yield f"postgresql+psycopg://tests@/postgres?host={folder}"
        finally:
            _run([*control, "-m", "immediate", "stop"])


def new_schema(server: str) -> str:
    """URL of an empty store in a server's database: a schema of its own."""
    name = f"store{next(NUMBERS)}"
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    engine.dispose()
    return f"{server}&options=-csearch_path%3D{name}"


def _programs() -> Path | None:
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).resolve().parent
    return next(
        (path.parent for place in PLACES for path in sorted(Path(place).glob("**/bin/pg_ctl"))),
        None,
    )


def _as_other_user(folder: Path) -> list[str]:
    """The server refuses to be run by root."""
    if os.geteuid() != 0:
        return []
    owner = next(user for user in ("postgres", "nobody") if _exists(user))
    shutil.chown(folder, owner)
    return ["setpriv", f"--reuid={owner}", "--clear-groups"]


def _exists(user: str) -> bool:
    try:
        return bool(pwd.getpwnam(user))
    except KeyError:
        return False


def _run(command: list[object]) -> None:
    words = [str(word) for word in command]
    # A server that keeps the pipe open would be waited for.
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
    assert done.returncode == 0, done.stderr.decode()
