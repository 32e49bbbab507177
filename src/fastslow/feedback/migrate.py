"""Migrates a store's schema to this version."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, select, text

from fastslow.errors import StateError

MIGRATIONS = Path(__file__).with_name("migrations")
ADVISORY_LOCK = 0x66617374
"""Makes processes that open the same PostgreSQL store at once wait for each other."""


def migrate(connection: Connection, *, to: str = "head") -> None:
    """Run the migrations that the store lacks, in one transaction of a connection that has none.

    Raises StateError for a store that a newer version has written.
    """
    if connection.dialect.name == "postgresql":
        with connection.begin():
            connection.execute(select(text(f"pg_advisory_xact_lock({ADVISORY_LOCK})")))
            _upgrade(connection, to)
        return
    # SQLite changes a table by making another, which would break foreign keys meanwhile; they
    # cannot be turned off inside a transaction.
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute("PRAGMA foreign_keys=OFF")
    with connection.begin():
        _upgrade(connection, to)
        if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
            raise StateError(
                "the store's tables are inconsistent (foreign keys); nothing was changed"
            )
    driver.execute("PRAGMA foreign_keys=ON")


def _upgrade(connection: Connection, to: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise StateError(
            f"the store has schema {current}, which this version of fastslow does not know; "
            "upgrade fastslow"
        )
    command.upgrade(config, to)
