"""Where the event store is, and how SQLAlchemy gets there; used by the store and by its migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.connections import ConnectionSpec, database_file
from mlops_plugin.errors import ConnectionUnusable, EventStoreError
from mlops_plugin.events.servers.engine import DRIVERS, server_engine
from mlops_plugin.masking import masked
from mlops_plugin.wait_limits import StoreLimits

_LIMITS = StoreLimits()
BUSY_TIMEOUT_S = 60  # SQLite has one writer at a time; the others wait this long for their turn


@dataclass(frozen=True)
class StoreAddress:
    """A MySQL or PostgreSQL connection, or an SQLite file."""

    connection: ConnectionSpec | None
    path: Path | None  # of the SQLite file; None for a server
    limits: StoreLimits = field(default_factory=StoreLimits)

    @classmethod
    def of(
        cls,
        events: EventsConfig,
        connection: ConnectionSpec | None,
        airflow_home: Path,
        limits: StoreLimits = _LIMITS,
    ) -> StoreAddress:
        """From `events:` of config.yaml; `ConnectionUnusable` for a type that cannot hold the store."""
        if connection is None:
            return cls(None, airflow_home / events.path, limits)
        if connection.conn_type == "sqlite":
            file = database_file(connection, airflow_home)
            if file is None:
                raise ConnectionUnusable(
                    f"connection '{connection.conn_id}': the event store cannot be in memory; set a file"
                )
            return cls(connection, file, limits)
        if connection.conn_type not in DRIVERS:
            raise ConnectionUnusable(
                f"connection '{connection.conn_id}': type '{connection.conn_type}' cannot hold "
                "the event store; use a connection of type mysql, postgres or sqlite"
            )
        return cls(connection, None, limits)

    def is_file_of(self, connection: ConnectionSpec, airflow_home: Path) -> bool:
        """Whether the store is the SQLite file of a connection."""
        if self.path is None or connection.conn_type.lower() != "sqlite":
            return False
        file = database_file(connection, airflow_home)
        return file is not None and file.resolve() == self.path.resolve()

    def __str__(self) -> str:
        return f"connection '{self.connection.conn_id}'" if self.connection else f"file {self.path}"

    def redact(self, text: str) -> str:
        return self.connection.redact(text) if self.connection else masked(text)

    def create_engine(self, *, create_file: bool = False) -> sa.Engine:
        """An engine that has not connected yet. Without `create_file` a missing SQLite file stays missing."""
        if self.path is not None:
            return _sqlite_engine(self.path, "rwc" if create_file else "rw")
        assert self.connection is not None  # noqa: S101 -- `of` makes no address without either
        return server_engine(self.connection, self.limits)


def _sqlite_engine(path: Path, mode: str) -> sa.Engine:
    query = {"mode": mode, "uri": "true"}
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=f"file:{quote(str(path))}", query=query),
        poolclass=sa.NullPool,  # opening the file costs less than a millisecond
        connect_args={"timeout": BUSY_TIMEOUT_S},
        hide_parameters=True,
    )

    # The driver must leave transactions to us: it begins them late, when another writer may be in between.
    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def translate_errors(address: StoreAddress, doing: str) -> Iterator[None]:
    """Turn what SQLAlchemy raises into an `EventStoreError` with the driver's message."""
    try:
        yield
    except sa.exc.StatementError as error:
        message = str(error.orig or error)
        raise _refused(address, doing, message) from _cause_without_secrets(address, error)
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
        raise _refused(address, doing, str(error)) from _cause_without_secrets(address, error)


def _cause_without_secrets(address: StoreAddress, error: Exception) -> Exception | None:
    # A traceback prints the cause as well.
    return error if address.redact(str(error)) == str(error) else None


def _refused(address: StoreAddress, doing: str, message: str) -> EventStoreError:
    words = " ".join(address.redact(message).split("\n", 1)[0].split())
    return EventStoreError(f"event store ({address}): {doing} failed: {words}")


def is_transient(error: sa.exc.DBAPIError) -> bool:
    """Whether the transaction collided with another and can simply be repeated."""
    code = getattr(error.orig, "errno", None) or getattr(error.orig, "pgcode", None)
    # MySQL, MariaDB: lock wait timeout, deadlock, row changed meanwhile. PostgreSQL: serialisation, deadlock,
    # lock timeout.
    return code in (1205, 1213, 1020, "40001", "40P01", "55P03")
