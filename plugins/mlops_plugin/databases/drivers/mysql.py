"""MySQL and MariaDB without ODBC, through mysql-connector-python: the slow but simple way in."""

from __future__ import annotations

import contextlib
import datetime
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.database import OpenDatabase, ReadOptions
from mlops_plugin.databases.drivers.driver_errors import driver_errors, load_driver
from mlops_plugin.databases.drivers.mysql_columns import DECIMALS, MysqlColumn, NoDate, strict_converter
from mlops_plugin.databases.drivers.row_stream import require_names, rows_at_once, stream
from mlops_plugin.databases.engines.registry import MYSQL
from mlops_plugin.databases.moments import utc_naive
from mlops_plugin.databases.sql_text import bare, named_marks
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError

_CONNECT_TIMEOUT_S = 10
_INSERT_ROWS = 5_000
_NO_SUCH_TABLE = 1146


class MysqlDatabase(OpenDatabase):
    """A `Database` over mysql.connector."""

    def __init__(self, spec: ConnectionSpec, options: ReadOptions) -> None:
        driver = load_driver(spec, "mysql.connector", "mysql-connector-python")
        super().__init__(spec, options, MYSQL)
        self._is_closed = False
        self._reading: Any = None  # the cursor of the reader that was handed out last
        self._error: type[Exception] = driver.Error
        address = {"unix_socket": spec.extra["unix_socket"]} if "unix_socket" in spec.extra else {}
        with driver_errors(spec, "connecting", self._error, OSError, ValueError):
            self._connection = driver.connect(
                host=spec.host or "localhost",
                port=spec.port or 3306,
                user=spec.login,
                password=spec.password or "",
                database=spec.schema or "",
                connection_timeout=_CONNECT_TIMEOUT_S,
                charset="utf8mb4",
                converter_class=strict_converter(),
                use_pure=not driver.HAVE_CEXT,
                autocommit=False,
                time_zone="+00:00",
                **address,
                **{key: value for key, value in spec.extra.items() if key.startswith("ssl_")},
            )

    def read(self, query: str, *, batch_rows: int, parameters: Sequence[object] = ()) -> pa.RecordBatchReader:
        query = bare(query, self.engine.name)
        scales = self._scales(query, parameters)
        cursor = self._cursor()
        with self._doing("running the query"):
            self._run(cursor, query, parameters)
            self._require_rows(cursor)
        self._reading = cursor
        columns = [
            MysqlColumn(self._source_column, description, scale)
            for description, scale in zip(cursor.description, scales, strict=True)
        ]
        schema = pa.schema([pa.field(column.source.name, column.type) for column in columns])

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                while True:
                    rows = self._fetch(cursor, rows_at_once(len(columns), batch_rows))
                    if not rows:
                        return
                    values = zip(*rows, strict=True)
                    arrays = [column.array(of_one) for column, of_one in zip(columns, values, strict=True)]
                    yield pa.RecordBatch.from_arrays(arrays, schema=schema)
            finally:
                self._finish_reading()

        return stream([column.source for column in columns], schema, batches(), batch_rows)

    def describe(self, query: str) -> pa.Schema:
        query = bare(query, self.engine.name)
        return self.read(f"SELECT * FROM (\n{query}\n) AS described LIMIT 0", batch_rows=1).schema

    def _scales(self, query: str, parameters: Sequence[object]) -> list[int]:
        """The digits after the point of each column that is a DECIMAL: the driver does not tell them.

        The server writes a DECIMAL with all its digits, also the zero that stands in for a row here.
        """
        with contextlib.closing(self._cursor()) as cursor, self._doing("running the query"):
            self._run(cursor, f"SELECT * FROM (\n{query}\n) AS described LIMIT 0", parameters)
            kinds = [column[1] for column in cursor.description]
            cursor.fetchall()
            require_names(self.conn_id, [column[0] for column in cursor.description])
            names = [self.engine.enclose(column[0]) for column in cursor.description]
            if not any(kind in DECIMALS for kind in kinds):
                return [0] * len(names)
            zeros = ", ".join(
                f"IFNULL({name}, 0)" if kind in DECIMALS else "0"
                for name, kind in zip(names, kinds, strict=True)
            )
            self._run(
                cursor,
                f"SELECT {zeros} FROM (SELECT 1 AS one) AS one LEFT JOIN (\n{query}\n) AS described ON FALSE",
                parameters,
            )
            (row,) = cursor.fetchall()
        return [-int(zero.as_tuple().exponent) if isinstance(zero, Decimal) else 0 for zero in row]

    def _fetch(self, cursor: Any, batch_rows: int) -> list[tuple[Any, ...]]:
        try:
            with self._doing("reading rows"):
                rows: list[tuple[Any, ...]] = cursor.fetchmany(batch_rows)
        except NoDate as error:
            source = self._source_column(error.column, "date or time")
            raise source.refusal(f"holds '{error.value}', which is no date") from error
        return rows

    def _finish_reading(self) -> None:
        """Take the rest of a result that nobody wants: the connection is good for nothing else before."""
        cursor, self._reading = self._reading, None
        with contextlib.suppress(self._error, OSError, NoDate):
            while cursor is not None and not self._is_closed and cursor.fetchmany(10_000):
                pass
            if cursor is not None:
                cursor.close()

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        with contextlib.closing(self._cursor()) as cursor, self._doing("running a statement"):
            self._run(cursor, statement, parameters)

    def insert(self, table: TableName, batches: pa.RecordBatchReader) -> int:
        names = ", ".join(map(self.engine.quote, batches.schema.names))
        marks = ", ".join(["%s"] * len(batches.schema))
        statement = f"INSERT INTO {table.quoted(self.engine)} ({names}) VALUES ({marks})"
        written = 0
        with contextlib.closing(self._cursor()) as cursor:
            for batch in batches:
                for start in range(0, batch.num_rows, _INSERT_ROWS):
                    part = batch.slice(start, _INSERT_ROWS)
                    values = [self._values(field, part.column(i)) for i, field in enumerate(part.schema)]
                    with self._doing(f"writing to {table}"):
                        cursor.executemany(statement, list(zip(*values, strict=True)))
                    written += part.num_rows
        return written

    def columns(self, table: TableName) -> tuple[str, ...] | None:
        with contextlib.closing(self._cursor()) as cursor:
            try:
                with self._doing(f"looking at {table}"):
                    cursor.execute(f"SELECT * FROM {table.quoted(self.engine)} LIMIT 0")
                    names = tuple(column[0] for column in cursor.description)
                    cursor.fetchall()
            except DatabaseError as error:
                if getattr(error.__cause__, "errno", None) == _NO_SUCH_TABLE:
                    return None
                raise
        return names

    def commit(self) -> None:
        self._finish_reading()
        with self._doing("committing"):
            self._connection.commit()

    def rollback(self) -> None:
        self._finish_reading()
        with self._doing("rolling back"):
            self._connection.rollback()

    def close(self) -> None:
        self._is_closed = True
        # Not close(): it would first say goodbye to a server that may still be sending rows.
        with contextlib.suppress(self._error, OSError):
            self._connection.shutdown()
            self._connection.close()  # what shutdown leaves open if the server has gone

    def _cursor(self) -> Any:
        self._finish_reading()
        with self._doing("connecting"):
            return self._connection.cursor()

    def _run(self, cursor: Any, statement: str, parameters: Sequence[object]) -> None:
        if parameters:
            named = {f"p{number}": value for number, value in enumerate(parameters, 1)}
            cursor.execute(named_marks(statement), named)
        else:
            cursor.execute(statement)

    def _require_rows(self, cursor: Any) -> None:
        if cursor.description is None:
            raise DatabaseError(
                self.conn_id, "running the query", "the statement returns no rows; write a SELECT"
            )

    def _doing(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return driver_errors(self._spec, doing, self._error)

    def _values(self, field: pa.Field, column: pa.Array) -> list[object]:
        values: list[object] = column.to_pylist()
        if pa.types.is_floating(field.type) and any(v is not None and not math.isfinite(v) for v in values):  # type: ignore[arg-type]
            raise DatabaseError(
                self.conn_id,
                f"writing column '{field.name}'",
                "MySQL has no NaN and no infinity, and this column holds one",
            )
        if pa.types.is_timestamp(field.type):
            return [utc_naive(value) if isinstance(value, datetime.datetime) else value for value in values]
        return values
