"""Creates the tables of the event store, upgrades them, and checks their version.

`mlops db upgrade` upgrades; every store checks on its first use, with one small query.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events.address import StoreAddress, translate_errors
from mlops_plugin.events.sql_dialects import lock_for_upgrade
from mlops_plugin.events.tables import SCHEMA_VERSION, VERSION_TABLE
from mlops_plugin.private_files import make_private_file, make_private_folder, restrict_file

if TYPE_CHECKING:
    from alembic.config import Config

LOCK_TIMEOUT_S = 300  # how long an upgrade waits for another one
_READ_VERSION = sa.text(f"SELECT version_num FROM {VERSION_TABLE}")


def upgrade(address: StoreAddress, revision: str = "head") -> str:
    """Bring the tables to `revision`; returns the version they then have.

    Does nothing if they are there already; if two run at once, the second waits for the first.
    An upgrade that was killed is completed by the next. Raises `EventStoreError`.
    """
    from alembic import command
    from alembic.util.exc import CommandError

    with translate_errors(address, "upgrading the tables"):
        if address.path is not None:
            _make_private(address.path)
        engine = replace(address, limits=address.limits.of_upgrade()).create_engine(create_file=True)
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
    """The version of the tables, or None if there are none. Raises `EventStoreError`."""
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


def _make_private(path: Path) -> None:
    """The file and what SQLite keeps beside it, which takes over the file's mode where it is new."""
    make_private_folder(path.parent, below=path.parent)
    make_private_file(path)
    for beside in ("-wal", "-shm"):
        restrict_file(path.with_name(path.name + beside))


def _allow_reading_while_writing(engine: sa.Engine) -> None:
    """Switch the SQLite file to its write-ahead log; the file remembers it."""
    with closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            cursor.execute("PRAGMA journal_mode = WAL")


@contextmanager
def _alone(engine: sa.Engine, address: StoreAddress) -> Iterator[sa.Connection]:
    """A connection in a transaction while which no other upgrade runs; committed at the end."""
    with engine.execution_options(writes=True).connect() as connection:
        if not lock_for_upgrade(connection, LOCK_TIMEOUT_S):
            raise EventStoreError(
                f"event store ({address}): another upgrade has been running for {LOCK_TIMEOUT_S} s; "
                "wait for it, or close its connection"
            )
        yield connection
        connection.commit()


def schema_version(connection: sa.Connection) -> str | None:
    """The version of the tables, or None if there are none; leaves the transaction as it is."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.scalar(_READ_VERSION)
    return version


def check_schema(engine: sa.Engine, address: StoreAddress) -> None:
    """Raise `EventStoreError` unless the tables are there and of this code's version."""
    found = None
    if address.path is None or address.path.exists():
        with engine.connect() as connection:
            try:
                found = connection.scalar(_READ_VERSION)
            except (sa.exc.ProgrammingError, sa.exc.OperationalError):
                connection.rollback()
                if schema_version(connection) is not None:
                    raise
    if found is None:
        raise EventStoreError(f"event store ({address}): there are no tables; run: mlops db upgrade")
    if found < SCHEMA_VERSION:
        raise EventStoreError(
            f"event store ({address}): the tables have version {found}, "
            f"this code needs {SCHEMA_VERSION}; run: mlops db upgrade"
        )
    refuse_newer(found, address)


def refuse_newer(found: str | None, address: StoreAddress) -> None:
    """Raise `EventStoreError` if a newer version of this code has upgraded the tables."""
    if found is not None and found > SCHEMA_VERSION:
        raise EventStoreError(
            f"event store ({address}): the tables have version {found}, newer than this code, "
            f"which supports {SCHEMA_VERSION}; install the version of mlops-plugin that upgraded them"
        )
