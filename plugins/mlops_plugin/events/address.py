"""Where the event store is, and how SQLAlchemy gets there; used by the store and by its migrations."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.connections import ConnectionSpec, database_file
from mlops_plugin.errors import ConnectionUnusable, EventStoreError
from mlops_plugin.masking import masked

CONNECT_TIMEOUT_S = 10
TRUSTED_S = 1.0  # a connection that was used so recently is taken to be alive; a write is repeated if not
BUSY_TIMEOUT_S = 60  # SQLite has one writer at a time; the others wait this long for their turn

_FREE_SINCE = "mlops_free_since"
_DRIVERS = {"mysql": "mysql+mysqlconnector", "postgres": "postgresql+psycopg2"}
# What of a connection's extra is handed to the driver; the rest is meant for Airflow's hooks.
_EXTRAS = {
    "mysql": ("unix_socket", "ssl_ca", "ssl_cert", "ssl_key", "ssl_disabled", "ssl_verify_cert"),
    "postgres": ("sslmode", "sslrootcert", "sslcert", "sslkey", "options", "application_name"),
}


@dataclass(frozen=True)
class StoreAddress:
    """A MySQL or PostgreSQL connection, or an SQLite file."""

    connection: ConnectionSpec | None
    path: Path | None  # of the SQLite file; None for a server

    @classmethod
    def of(cls, events: EventsConfig, connection: ConnectionSpec | None, airflow_home: Path) -> StoreAddress:
        """From `events:` of config.yaml; `ConnectionUnusable` for a type that cannot hold the store."""
        if connection is None:
            return cls(None, airflow_home / events.path)
        if connection.conn_type == "sqlite":
            file = database_file(connection, airflow_home)
            if file is None:
                raise ConnectionUnusable(
                    f"connection '{connection.conn_id}': the event store cannot be in memory; name a file"
                )
            return cls(connection, file)
        if connection.conn_type not in _DRIVERS:
            raise ConnectionUnusable(
                f"connection '{connection.conn_id}': type '{connection.conn_type}' cannot hold "
                "the event store; use a connection of type mysql, postgres or sqlite"
            )
        return cls(connection, None)

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
        return _server_engine(self.connection)


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


def _server_engine(connection: ConnectionSpec) -> sa.Engine:
    given = {
        name: connection.extra[name] for name in _EXTRAS[connection.conn_type] if name in connection.extra
    }
    if connection.conn_type == "mysql":
        # By default the driver asks for a collation of MySQL 8; every server knows this one.
        ours = {
            "charset": "utf8mb4",
            "collation": "utf8mb4_bin",
            "connection_timeout": CONNECT_TIMEOUT_S,
        }
        default_port = 3306
    else:
        ours = {"connect_timeout": CONNECT_TIMEOUT_S, "client_encoding": "utf8"}
        default_port = 5432
    engine = sa.create_engine(
        sa.URL.create(
            _DRIVERS[connection.conn_type],
            username=connection.login,
            password=connection.password,
            host=connection.host,
            port=connection.port or (default_port if connection.host else None),
            database=connection.schema,
        ),
        connect_args={**ours, **given},
        isolation_level="READ COMMITTED",
        pool_size=2,
        max_overflow=8,
        pool_reset_on_return=None,  # by `_spare_round_trips`
        pool_recycle=1800,
        hide_parameters=True,
    )
    _spare_round_trips(engine)
    return engine


def _spare_round_trips(engine: sa.Engine) -> None:
    """Save round trips: SQLAlchemy's pool would roll back after each commit and ping the server each time."""

    @sa.event.listens_for(engine, "connect")
    def ask_once(connection: Any, _record: Any) -> None:
        if hasattr(connection, "is_connected"):  # MySQL's driver asks before each statement
            connection.is_connected = lambda: True

    @sa.event.listens_for(engine, "reset")
    def end_transaction(connection: Any, record: Any, _state: Any) -> None:
        # The drivers know from the server's last answer whether one is open; psycopg2 looks by itself.
        if getattr(connection, "in_transaction", True):
            connection.rollback()
        if record is not None:  # it is, of one that does not go back
            record.info[_FREE_SINCE] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def find_alive(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get(_FREE_SINCE, math.inf) < TRUSTED_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise sa.exc.InvalidatePoolError from error  # the pool reconnects


@contextmanager
def translate_errors(address: StoreAddress, doing: str) -> Iterator[None]:
    """Turn what SQLAlchemy raises into an `EventStoreError` with the driver's message."""
    try:
        yield
    except sa.exc.StatementError as error:
        message = str(error.orig or error)
        raise _refused(address, doing, message) from _unless_it_quotes_secrets(address, error)
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
        raise _refused(address, doing, str(error)) from _unless_it_quotes_secrets(address, error)


def _unless_it_quotes_secrets(address: StoreAddress, error: Exception) -> Exception | None:
    # A traceback prints the cause as well.
    return error if address.redact(str(error)) == str(error) else None


def _refused(address: StoreAddress, doing: str, message: str) -> EventStoreError:
    words = " ".join(address.redact(message).split("\n", 1)[0].split())
    return EventStoreError(f"event store ({address}): {doing} failed: {words}")


def is_transient(error: sa.exc.DBAPIError) -> bool:
    """Whether the transaction collided with another and can simply be repeated."""
    code = getattr(error.orig, "errno", None) or getattr(error.orig, "pgcode", None)
    # MySQL, MariaDB: lock wait timeout, deadlock, row changed meanwhile. PostgreSQL: serialisation, deadlock.
    return code in (1205, 1213, 1020, "40001", "40P01")
