"""Makes the event store's tables and brings them up to date; `mlops db upgrade` calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events.address import StoreAddress, translate_errors
from mlops_plugin.events.schema_check import refuse_newer, schema_version

if TYPE_CHECKING:
    from alembic.config import Config

LOCK_TIMEOUT_S = 300  # how long an upgrade waits for another one
_POSTGRES_LOCK = 0x6D6C6F7073  # "mlops": advisory locks are numbers, shared by all users of the database


def upgrade(address: StoreAddress, revision: str = "head") -> str:
    """Bring the tables to `revision`; returns the version they then have.

    Does nothing where they are there already; where two run at once, the second waits for the first.
    An upgrade that was killed is completed by the next. Raises `EventStoreError`.
    """
    from alembic import command
    from alembic.util.exc import CommandError

    with translate_errors(address, "upgrading the tables"):
        if address.path is not None:
            address.path.parent.mkdir(parents=True, exist_ok=True)
        engine = address.create_engine(create_file=True)
        try:
            if address.path is not None:
                _allow_reading_while_writing(engine)
            with _alone(engine, address) as connection:
                refuse_newer(schema_version(connection), address)
                command.upgrade(_alembic(connection), revision)
                return str(schema_version(connection))
        except CommandError as error:
            raise EventStoreError(f"event store ({address}): upgrading the tables failed: {error}") from error
        finally:
            engine.dispose()


def current(address: StoreAddress) -> str | None:
    """The version of the tables, or None where there are none. Raises `EventStoreError`."""
    if address.path is not None and not address.path.exists():
        return None
    with translate_errors(address, "reading the version of the tables"):
        engine = address.create_engine()
        try:
            with engine.connect() as connection:
                return schema_version(connection)
        finally:
            engine.dispose()


def _alembic(connection: sa.Connection) -> Config:
    from alembic.config import Config

    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _allow_reading_while_writing(engine: sa.Engine) -> None:
    """Switch the SQLite file to its write-ahead log; the file remembers it."""
    with closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            cursor.execute("PRAGMA journal_mode = WAL")


@contextmanager
def _alone(engine: sa.Engine, address: StoreAddress) -> Iterator[sa.Connection]:
    """A connection in a transaction while which no other upgrade runs; committed at the end."""
    with engine.execution_options(writes=True).connect() as connection:
        match connection.dialect.name:
            case "mysql" | "mariadb":
                # Lock names are the server's, so ours holds the database's; ends with the connection.
                name = "CONCAT('mlops_event_store.', LEFT(MD5(DATABASE()), 32))"
                if connection.scalar(sa.text(f"SELECT GET_LOCK({name}, {LOCK_TIMEOUT_S})")) != 1:
                    raise EventStoreError(
                        f"event store ({address}): another upgrade is running since {LOCK_TIMEOUT_S} s; "
                        "wait for it, or end its connection"
                    )
            case "postgresql":
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_POSTGRES_LOCK})"))
            case _:
                pass  # SQLite: the transaction is the lock
        yield connection
        connection.commit()
