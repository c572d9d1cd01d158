"""Opens a connection with the driver that its type asks for."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.database import Database, ReadOptions
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.engines.registry import engine_named, engine_of_driver
from mlops_plugin.errors import ConnectionUnusable
from mlops_plugin.wait_limits import Limits

_LIMITS = Limits()

# Connection type -> module and class. By name, so that a task loads the driver that it uses and no other.
_DRIVERS: Mapping[str, tuple[str, str]] = {
    "odbc": ("odbc.driver", "OdbcDatabase"),
    "mysql": ("mysql", "MysqlDatabase"),
    "mariadb": ("mysql", "MysqlDatabase"),
    "postgres": ("adbc_postgres", "PostgresDatabase"),
    "postgresql": ("adbc_postgres", "PostgresDatabase"),
    "sqlite": ("adbc_sqlite", "SqliteDatabase"),
    "duckdb": ("adbc_duckdb", "DuckdbDatabase"),
}


def expected_engine(spec: ConnectionSpec) -> Engine | None:
    """The engine behind a connection if its settings name it; None if only the server knows."""
    if spec.conn_type.lower() != "odbc":
        return engine_named(spec.conn_type)
    from mlops_plugin.databases.drivers.odbc.connection_string import driver_name

    dialect = spec.extra.get("dialect")
    return engine_named(str(dialect)) if dialect else engine_of_driver(driver_name(spec) or "")


def open_database(
    spec: ConnectionSpec,
    *,
    max_text_bytes: int = 4096,
    exact_columns: Collection[str] | None = None,
    limits: Limits = _LIMITS,
) -> Database:
    """Connect; see `ReadOptions`. Every wait for a server ends within its limit, by `ServerSilent`.

    Raises `ConnectionUnusable`, `DriverMissing`, or `DatabaseError` with the driver's own words.
    """
    if spec.conn_type.lower() not in _DRIVERS:
        raise ConnectionUnusable(
            f"connection '{spec.conn_id}' is of type '{spec.conn_type}'; rows can be read and written "
            f"through connections of type {', '.join(sorted(_DRIVERS))}"
        )
    module, name = _DRIVERS[spec.conn_type.lower()]
    driver = getattr(importlib.import_module(f"mlops_plugin.databases.drivers.{module}"), name)
    exact = None if exact_columns is None else frozenset(exact_columns)
    options = ReadOptions(max_text_bytes, exact, limits)

    if not driver.waits_for_server:
        database: Database = driver(spec, options)
        return database
    from mlops_plugin.databases.limited_database import LimitedDatabase

    return LimitedDatabase(spec, limits, lambda: driver(spec, options))
