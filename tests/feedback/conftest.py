import sys
from pathlib import Path

import pytest
from sqlalchemy import update

sys.path.insert(0, str(Path(__file__).parent))

import postgres  # noqa: E402
from town import Town  # noqa: E402

from fastslow.feedback import Store  # noqa: E402
from fastslow.feedback.schema import meta  # noqa: E402


@pytest.fixture(scope="session")
def postgres_server():
    with postgres.running() as url:
        yield url


@pytest.fixture
def shared_store(postgres_server):
    """URL of an empty store that several processes may share."""
    return postgres.new_schema(postgres_server)


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    """A place for a store: a folder, or a schema of its own on a real server."""
    if request.param == "sqlite":
        return str(tmp_path / "live")
    return request.getfixturevalue("shared_store")


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
