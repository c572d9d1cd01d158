"""Every way into a database, each with an empty database behind it, for the tests that hold for all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.engines.registry import engine_named
from mlops_plugin.databases.opening import open_database
from mlops_plugin.databases.sink.write_request import WriteRequest
from mlops_plugin.databases.sink.writer import write_predictions
from mlops_plugin.databases.table_name import TableName
from support.servers import Server, ServerDatabase
from support.sinks import Mode, registration, sink_config
from support.sqlite_client import in_sqlite

WAYS_IN = ("odbc-mariadb", "mysql", "odbc-postgres", "postgres", "sqlite")
INTO_MARIADB = ("odbc-mariadb", "mysql")


_kept_open: dict[str, Any] = {}  # connections to files of DuckDB, by file
_ONE_NUMBER = 1  # of all dispatches, so that the last that writes counts, as without an order


@dataclass(frozen=True)
class WayIn:
    """One connection, and another client that looks at the same database."""

    name: str
    spec: ConnectionSpec
    server: ServerDatabase | None
    is_narrow: bool = False  # a table that `write` creates gets narrow rows

    @property
    def engine(self) -> str:
        engines = {"odbc-mariadb": "mysql", "odbc-postgres": "postgres", "odbc-sqlite": "sqlite"}
        return engines.get(self.name, self.name)

    @property
    def _file(self) -> str:
        return str(self.spec.host or self.spec.schema)

    def open(self, **settings: Any) -> Database:
        return open_database(self.spec, **settings)

    @property
    def airflow_connection(self) -> str:
        """The value of an `AIRFLOW_CONN_...` variable."""
        said = asdict(self.spec)
        del said["conn_id"]
        return json.dumps(said)

    def keep_open(self) -> None:
        """Start DuckDB, which takes 20 ms of processor time, once and not for each connection of a test."""
        from mlops_plugin.databases.drivers.adbc_duckdb import connect

        _kept_open[self._file] = connect(Path(self._file))

    def let_go(self) -> None:
        """Let another process open the file: DuckDB's belongs to one at a time."""
        if connection := _kept_open.pop(self._file, None):
            from mlops_plugin.databases.drivers.adbc_duckdb import disconnect

            disconnect(connection)

    def execute(self, *statements: str) -> None:
        if self.server:
            self.server.execute(*statements)
        elif self.name == "duckdb":
            _in_duckdb(self.spec, *((statement, None) for statement in statements))
        else:
            in_sqlite(self._file, *((statement, None) for statement in statements))

    def fill(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Put rows, at least one, into a table as the other client writes them."""
        mark = "%s" if self.server else "?"
        statement = f"INSERT INTO {table} VALUES ({', '.join([mark] * len(rows[0]))})"
        if self.name == "duckdb":
            _in_duckdb(self.spec, (statement, rows))
            return
        if self.server is None:
            in_sqlite(self._file, (statement, rows))
            return
        with self.server.cursor() as cursor:
            cursor.executemany(statement, rows)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        if self.server:
            return self.server.rows(query)
        if self.name == "duckdb":
            return _in_duckdb(self.spec, (query, None))
        return in_sqlite(self._file, (query, None))

    def write(
        self,
        batches: pa.RecordBatchReader | pa.Table,
        mode: Mode,
        *,
        dispatch: str = "d1",
        key: Sequence[str] = ("id",),
        table: str = "predictions",
        create: bool = True,
    ) -> int:
        """Write a dispatch as the persist step does."""
        reader = batches.to_reader(max_chunksize=4) if isinstance(batches, pa.Table) else batches
        with self.open() as database:
            request = WriteRequest(
                sink_config(mode, table=table, create=create),
                tuple(key),
                dispatch,
                registration=registration(_ONE_NUMBER) if self.is_narrow else None,
                is_narrow=self.is_narrow,
            )
            return write_predictions(database, request, reader).persisted

    def quoted(self, name: str) -> str:
        """A column's or table's name as a query of this engine says it."""
        return engine_named(self.engine).quote(name)

    @property
    def rows_table(self) -> str:
        """The table that holds the rows of the sink `predictions`."""
        return "predictions_rows" if self.is_narrow else "predictions"

    def quote_table(self, table: str = "predictions") -> str:
        with self.open() as database:
            return TableName.parse(table).quoted(database.engine)

    def stored(self, columns: str = "id, prediction, dispatch_id", table: str = "predictions") -> list[Any]:
        return sorted(self.rows(f"SELECT {columns} FROM {table}"))


def _in_duckdb(spec: ConnectionSpec, *statements: tuple[str, Any]) -> list[tuple[Any, ...]]:
    """As `in_sqlite`, but in this process: DuckDB's file belongs to one process at a time."""
    from mlops_plugin.databases.drivers.adbc_duckdb import connect, disconnect

    connection = connect(Path(str(spec.host)))
    rows: list[tuple[Any, ...]] = []
    try:
        for statement, many in statements:
            with contextlib.closing(connection.cursor()) as cursor:
                if many is None:
                    cursor.execute(statement)
                    columns = cursor.fetch_arrow_table().columns
                    rows = [*zip(*(column.to_pylist() for column in columns), strict=True)]
                else:
                    for row in many:  # it binds one at a time
                        cursor.execute(statement, tuple(row))
        connection.commit()
    finally:
        disconnect(connection)
    return rows


def spec_of(database: ServerDatabase, conn_type: str | None = None, **changes: Any) -> ConnectionSpec:
    """A server's database as an Airflow connection says it."""
    conn_type = conn_type or database.engine
    values: dict[str, Any] = {
        "conn_id": "way",
        "conn_type": conn_type,
        "host": database.host,
        "port": database.port,
        "login": database.user,
        "password": database.password,
        "schema": database.database,
        "extra": {"driver": database.odbc_driver} if conn_type == "odbc" else {},
    }
    return ConnectionSpec(**{**values, **changes})


def way_in(name: str, request: pytest.FixtureRequest, folder: Path) -> WayIn:
    """The way in of that name, with a new database."""
    if name in ("sqlite", "odbc-sqlite"):
        return sqlite_way(folder) if name == "sqlite" else sqlite_odbc_way(folder)
    if name == "duckdb":
        way = duckdb_way(folder)
        way.keep_open()
        request.addfinalizer(way.let_go)
        return way
    engine = "mariadb" if name in INTO_MARIADB else "postgres"
    server: Server = request.getfixturevalue(engine)
    database = server.new_database()
    request.addfinalizer(lambda: server.take_back(database))
    return WayIn(name, spec_of(database, "odbc" if name.startswith("odbc") else None), database)


def sqlite_way(folder: Path) -> WayIn:
    return WayIn("sqlite", ConnectionSpec("way", "sqlite", host=str(folder / "a file.db")), None)


def duckdb_way(folder: Path) -> WayIn:
    """A file that the last connection of this process lets go of."""
    return WayIn("duckdb", ConnectionSpec("way", "duckdb", host=str(folder / "a file.duckdb")), None)


def sqlite_odbc_way(folder: Path) -> WayIn:
    """It refuses much: docs/databases.md says what."""
    path = str(folder / "a file.db")
    return WayIn("odbc-sqlite", ConnectionSpec("way", "odbc", schema=path, extra={"driver": "SQLite3"}), None)
