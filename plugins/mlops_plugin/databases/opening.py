"""Opens a connection by the way in that its type asks for."""

from __future__ import annotations

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.database import Database
from mlops_plugin.errors import ConnectionUnusable


def open_database(spec: ConnectionSpec, *, max_text_bytes: int = 4096) -> Database:
    """Connect, within about ten seconds; `max_text_bytes` bounds one text value read over ODBC.

    Raises `ConnectionUnusable`, `DriverMissing`, or `DatabaseError` with the driver's own words.
    """
    # One way in per branch: a task loads the driver it uses, not all of them.
    match spec.conn_type.lower():
        case "odbc":
            from mlops_plugin.databases.drivers.odbc.driver import OdbcDatabase

            return OdbcDatabase(spec, max_text_bytes=max_text_bytes)
        case "sqlite":
            from mlops_plugin.databases.drivers.adbc_sqlite import SqliteDatabase

            return SqliteDatabase(spec)
        case "postgres" | "postgresql":
            from mlops_plugin.databases.drivers.adbc_postgres import PostgresDatabase

            return PostgresDatabase(spec)
        case "mysql" | "mariadb":
            from mlops_plugin.databases.drivers.mysql import MysqlDatabase

            return MysqlDatabase(spec)
    raise ConnectionUnusable(
        f"connection '{spec.conn_id}' is of type '{spec.conn_type}'; rows can be read and written through "
        "connections of type odbc, mysql, postgres or sqlite"
    )
