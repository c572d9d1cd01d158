"""MySQL and MariaDB without ODBC: mysql-connector-python logs in, and rows pass in the binary protocol."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.database import OpenDatabase, ReadOptions
from mlops_plugin.databases.drivers.driver_errors import driver_errors, load_driver
from mlops_plugin.databases.drivers.mysql_columns import MysqlColumn
from mlops_plugin.databases.drivers.mysql_protocol.binary_rows import NotADate, read_columns
from mlops_plugin.databases.drivers.mysql_protocol.insertion import Insertion, TableRows
from mlops_plugin.databases.drivers.mysql_protocol.parameters import encode_values
from mlops_plugin.databases.drivers.mysql_protocol.statements import Prepared, Rows
from mlops_plugin.databases.drivers.row_stream import require_names, rows_at_once, stream
from mlops_plugin.databases.engines.registry import MYSQL
from mlops_plugin.databases.sql_text import bare, named_marks, question_marks
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError

_BATCH_BYTES = 2**25  # of rows that are read at once
_FIRST_ROWS = 5_000  # come by themselves: who works on rows while others are read can begin
_NO_SUCH_TABLE = 1146


class MysqlDatabase(OpenDatabase):
    """A `Database` over mysql.connector."""

    upserts = True

    def __init__(self, spec: ConnectionSpec, options: ReadOptions) -> None:
        driver = load_driver(spec, "mysql.connector", "mysql-connector-python")
        super().__init__(spec, options, MYSQL)
        from mlops_plugin.databases.drivers.mysql_protocol.session import Session

        self._is_closed = False
        self._reading: Prepared | None = None  # the query whose rows were handed out last
        self._error: type[Exception] = driver.Error
        address = {"unix_socket": spec.extra["unix_socket"]} if "unix_socket" in spec.extra else {}
        with driver_errors(spec, "connecting", self._error, OSError, ValueError):
            self._connection = Session(
                host=spec.host or "localhost",
                port=spec.port or 3306,
                user=spec.login,
                password=spec.password or "",
                database=spec.schema or "",
                connection_timeout=math.ceil(options.limits.connect_s),
                charset="utf8mb4",
                autocommit=False,
                init_command=str(MYSQL.session_settings),
                **address,
                **{key: value for key, value in spec.extra.items() if key.startswith("ssl_")},
            )
            self._statements = self._connection.statements()

    def read(self, query: str, *, batch_rows: int, parameters: Sequence[object] = ()) -> pa.RecordBatchReader:
        query = bare(query, self.engine.name)
        self._finish_reading()
        with self._doing("running the query", ValueError):
            prepared = self._prepare(question_marks(query), len(parameters))
            definitions = self._statements.query(prepared, encode_values(parameters))
        if not definitions:
            raise DatabaseError(
                self.conn_id, "running the query", "the statement returns no rows; write a SELECT"
            )
        self._reading = prepared
        require_names(self.conn_id, [definition.name for definition in definitions])
        columns = [MysqlColumn(self._source_column, definition) for definition in definitions]
        schema = pa.schema([column.field for column in columns])

        def batches() -> Iterator[pa.RecordBatch]:
            most_rows = rows_at_once(len(columns), batch_rows)
            first = self._statements.rows(min(most_rows, _FIRST_ROWS), _BATCH_BYTES)
            rows = chain(islice(first, 1), self._statements.rows(most_rows, _BATCH_BYTES))
            try:
                while (some := self._fetch(rows)) is not None:
                    yield pa.RecordBatch.from_arrays(_arrays(columns, some), schema=schema)
            finally:
                if self._reading is prepared:
                    self._finish_reading()

        return stream([column.source for column in columns], schema, batches(), batch_rows)

    def describe(self, query: str) -> pa.Schema:
        query = bare(query, self.engine.name)
        return self.read(f"SELECT * FROM (\n{query}\n) AS described LIMIT 0", batch_rows=1).schema

    def _prepare(self, statement: str, marks: int) -> Prepared:
        prepared = self._statements.prepare(statement)
        if prepared.marks != marks:
            self._statements.forget(prepared)
            raise self._error(f"the statement has {prepared.marks} `?` for {marks} parameters")
        return prepared

    def _fetch(self, rows: Iterator[Rows]) -> Rows | None:
        with self._doing("reading rows"):
            return next(rows, None)

    def _finish_reading(self) -> None:
        """Take the rest of a result that nobody wants: the connection is good for nothing else before."""
        prepared, self._reading = self._reading, None
        if prepared is None or self._is_closed:
            return
        with contextlib.suppress(self._error, OSError):
            self._statements.finish()
            self._statements.forget(prepared)

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        with contextlib.closing(self._cursor()) as cursor, self._doing("running a statement"):
            self._run(cursor, statement, parameters)

    def insert(self, table: TableName, batches: pa.RecordBatchReader) -> int:
        return self._insert(table, batches)

    def upsert(self, table: TableName, batches: pa.RecordBatchReader, values: Sequence[str]) -> int:
        # MariaDB has no other word for a new value, and MySQL still takes this one.
        updates = ", ".join(f"{name} = VALUES({name})" for name in map(self.engine.quote, values))
        return self._insert(table, batches, f" ON DUPLICATE KEY UPDATE {updates}")

    def _insert(self, table: TableName, batches: pa.RecordBatchReader, behind: str = "") -> int:
        into = TableRows(table.quoted(self.engine), [*map(self.engine.quote, batches.schema.names)], behind)
        insertion = Insertion(self._statements, into, is_bulk=self._connection.can_bulk)
        doing, written = f"writing to {table}", 0
        self._finish_reading()
        try:
            for batch in batches:  # made while the server works on the one before
                self._require_finite(batch)
                with self._doing(doing, ValueError):
                    insertion.add(batch)
                written += batch.num_rows
            with self._doing(doing):
                insertion.end()
        except BaseException:
            # Else an answer that is still to come would be taken for that to the next statement.
            with contextlib.suppress(self._error, OSError):
                self._statements.settle()
            raise
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

    def abandon(self) -> None:
        self._connection.shutdown()  # of the socket: who waits for it wakes up

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

    def _doing(self, doing: str, *others: type[Exception]) -> contextlib.AbstractContextManager[None]:
        return driver_errors(self._spec, doing, self._error, OSError, *others)

    def _require_finite(self, batch: pa.RecordBatch) -> None:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column), min_count=0).as_py():
                raise DatabaseError(
                    self.conn_id,
                    f"writing column '{name}'",
                    "the column holds NaN or infinity, which MySQL cannot store",
                )


def _arrays(columns: Sequence[MysqlColumn], rows: Rows) -> list[pa.Array]:
    arrays: list[pa.Array] = []
    read = read_columns(rows, [column.kind for column in columns])
    for column in columns:
        try:
            arrays.append(column.exact(next(read)))
        except NotADate as error:
            raise column.source.refusal(f"holds '{error}', which is not a date") from error
        except pa.ArrowInvalid as error:
            raise column.source.refusal("holds text that is not UTF-8") from error
    return arrays
