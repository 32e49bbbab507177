import itertools
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text, update

sys.path.insert(0, str(Path(__file__).parent))

import postgres  # noqa: E402
from town import Town  # noqa: E402

from fastslow.feedback import Store  # noqa: E402
from fastslow.feedback.schema import meta  # noqa: E402

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres_server():
    with postgres.running() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    """A place for a store: a folder, or a schema of its own on a real server."""
    if request.param == "sqlite":
        return str(tmp_path / "live")
    server = request.getfixturevalue("postgres_server")
    name = f"store{next(NUMBERS)}"
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    engine.dispose()
    return f"{server}&options=-csearch_path%3D{name}"


@pytest.fixture
def store(where):
    # What is held out hangs on the store's name, which is random otherwise: here the fifth.
    name = update(meta).where(meta.c.key == "store").values(value="store 5")
    with Store(where) as opened:
        opened.write(lambda connection: connection.execute(name))
        yield opened


@pytest.fixture
def town(store):
    return Town(store)
