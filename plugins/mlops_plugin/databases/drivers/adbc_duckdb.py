"""DuckDB files, through the ADBC driver inside the `duckdb` wheel."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlops_plugin.arrow_values import INTEGERS, LABELS
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.database import ReadOptions
from mlops_plugin.databases.drivers.adbc import AdbcFile, load_adbc
from mlops_plugin.databases.drivers.row_stream import joined, require_names, rows_at_once, stream
from mlops_plugin.databases.engines.duckdb import NAMES, place
from mlops_plugin.databases.engines.registry import DUCKDB
from mlops_plugin.databases.source_column import SourceColumn
from mlops_plugin.databases.sql_text import bare, question_marks
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError

# Types whose values arrive as stored, in this Arrow type; of those with a size, what stands before it.
_TYPES = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "UUID": pa.string(),
    "JSON": pa.string(),
    "ENUM": pa.string(),
    "BLOB": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP_S": pa.timestamp("s"),
    "TIMESTAMP_MS": pa.timestamp("ms"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
    "INTERVAL": pa.month_day_nano_interval(),
}
_WIDE_NUMBERS = ("HUGEINT", "UHUGEINT", "BIGNUM")
# Arrow counts an interval's time in nanoseconds of 64 bits; of more, the driver keeps the last 64 bits.
_MOST_HOURS = 2**63 // 10**9 // 3600
_LONG_SPAN = "holds a time of 292 years or more beside its months and days"
_LOCKED = "Could not set lock on file"
# The connections of this process by file. Each opens the same instance of the database: two instances on one
# file do not see each other's rows and ruin it, and the file's lock stops other processes only.
_open_connections: dict[Path, list[Any]] = {}
_opening = threading.Lock()


def connect(path: Path | None) -> Any:
    """A connection of the driver to a file (None: in memory), for this process; `disconnect` ends it."""
    from adbc_driver_duckdb import dbapi

    if path is None:
        return dbapi.connect()
    with _opening:
        others = _open_connections.get(path.resolve(), [])
        connection = others[0].adbc_clone() if others else dbapi.connect(str(path))
        _open_connections[path.resolve()] = [*others, connection]
    return connection


def disconnect(connection: Any) -> None:
    """Close what `connect` opened; the last one of a process lets go of the file."""
    with _opening:
        for path, connections in [*_open_connections.items()]:
            if connection in connections:
                connections.remove(connection)
            if not connections:
                del _open_connections[path]
        connection.close()


class DuckdbDatabase(AdbcFile):
    """A `Database` over adbc_driver_duckdb."""

    def __init__(self, spec: ConnectionSpec, options: ReadOptions) -> None:
        load_adbc(spec, "adbc_driver_duckdb.dbapi", "duckdb")
        super().__init__(spec, options, DUCKDB)

    def read(self, query: str, *, batch_rows: int, parameters: Sequence[object] = ()) -> pa.RecordBatchReader:
        query = question_marks(bare(query, self.engine.name))
        self._require_file("running the query")
        columns = self._described(query, parameters)
        schema = pa.schema(map(_field, columns))
        chosen = ", ".join(map(self._fetched, columns))
        cursor = self._reading = self._connection.cursor()
        with self._doing("running the query"):
            self._run(cursor, f"SELECT {chosen} FROM (\n{query}\n) q", parameters)
            reader = cursor.fetch_record_batch()

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                with self._reading_rows():
                    yield from joined(reader, rows_at_once(len(schema), batch_rows))  # of 2,048 rows each
            except DatabaseError as error:
                for column in columns:
                    if _is_long(column) in error.driver_says:
                        raise column.refusal(_LONG_SPAN) from None
                raise
            self._finish_reading()

        return stream(columns, schema, batches(), batch_rows)

    def describe(self, query: str) -> pa.Schema:
        query = question_marks(bare(query, self.engine.name))
        self._require_file("describing the query")
        return pa.schema(map(_field, self._described(query, ())))

    def insert(self, table: TableName, batches: pa.RecordBatchReader) -> int:
        self._open()
        # The driver appends by position; by name goes only what is a table already.
        passed = TableName(f"mlops_rows_{uuid.uuid4().hex[:12]}", "main", "temp")
        names = ", ".join(map(self.engine.quote, batches.schema.names))
        with contextlib.closing(self._cursor()) as cursor, self._doing(f"writing to {table}"):
            watched = _Watched(batches)
            count = int(cursor.adbc_ingest(passed.name, watched.reader(), mode="create", temporary=True))
            if watched.error is not None:
                raise watched.error
            if count != watched.count:
                doing, found = f"writing to {table}", f"the driver took {count} of {watched.count} rows"
                raise DatabaseError(self.conn_id, doing, found)
            rows = passed.quoted(self.engine)
            self._run(
                cursor, f"INSERT INTO {table.quoted(self.engine)} ({names}) SELECT {names} FROM {rows}", ()
            )
            self._run(cursor, f"DROP TABLE {rows}", ())
        return count

    def columns(self, table: TableName) -> tuple[str, ...] | None:
        # Not by a query on the table: an error would end the transaction.
        if self._connection is None:
            return None
        rows = self._rows(NAMES, place(table), f"looking at {table}")
        return tuple(row["name"] for row in rows) or None

    def close(self) -> None:
        self._finish_reading()
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(self._error):
                disconnect(connection)

    def _open(self) -> None:
        if self._connection is not None:
            return
        try:
            with self._doing("connecting"):
                self._connection = connect(self._path)
                with contextlib.closing(self._cursor()) as cursor:
                    cursor.execute(str(self.engine.session_settings))
                self._connection.commit()
        except DatabaseError as error:
            if _LOCKED not in error.driver_says:
                raise
            raise DatabaseError(
                error.conn_id,
                error.doing,
                f"another process has the file {self._path} open: only one process at a time can open a "
                f"DuckDB file for writing; wait until it ends, or use a database server if dispatches "
                f"overlap\n{error.driver_says}",
            ) from error

    def _described(self, query: str, parameters: Sequence[object]) -> list[SourceColumn]:
        rows = self._rows(f"DESCRIBE {query}", parameters, "running the query")
        if not rows or "column_type" not in rows[0]:
            raise DatabaseError(self.conn_id, "running the query", "it returns no rows; write a SELECT")
        require_names(self.conn_id, [self.engine.fold(row["column_name"]) for row in rows])
        return [self._source_column(row["column_name"], row["column_type"]) for row in rows]

    def _fetched(self, column: SourceColumn) -> str:
        """A column as it is asked for, so that nothing is lost on the way."""
        name = self.engine.enclose(column.name)
        if column.type_name in _WIDE_NUMBERS:
            return f"{self.engine.as_double(name)} AS {name}"
        if column.type_name.startswith("ENUM"):
            return f"{self.engine.as_text(name)} AS {name}"
        if column.type_name == "INTERVAL":
            is_long = f"abs(date_part('hour', {name})) >= {_MOST_HOURS:d}"
            said = _is_long(column).replace("'", "''")
            return f"CASE WHEN {is_long} THEN error('{said}') ELSE {name} END AS {name}"
        return name


class _Watched:
    """Rows on their way in: the driver takes a stream that breaks off for one that ends."""

    def __init__(self, source: pa.RecordBatchReader) -> None:
        self._source = source
        self.count = 0
        self.error: Exception | None = None

    def reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self._source.schema, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._source:
                self.count += batch.num_rows
                yield batch
        except Exception as error:
            self.error = error
            raise


def _is_long(column: SourceColumn) -> str:
    """What the query's own error says of a span that the driver would change."""
    return f"column '{column.name}' {_LONG_SPAN}"


def _field(column: SourceColumn) -> pa.Field:
    is_label = column.type_name.startswith("ENUM(")
    metadata = INTEGERS if column.type_name in _WIDE_NUMBERS else LABELS if is_label else None
    return pa.field(column.name, _arrow_type(column), metadata=metadata)


def _arrow_type(column: SourceColumn) -> pa.DataType:
    declared = column.type_name
    if declared in _WIDE_NUMBERS:
        if column.is_feature:
            return pa.float64()
        raise column.refusal("may have more digits than any Arrow type holds", is_number=True)
    if declared.startswith("DECIMAL(") and not declared.endswith("]"):
        precision, scale = declared.removeprefix("DECIMAL(").rstrip(")").split(",")
        return pa.decimal128(int(precision), int(scale))
    base = "ENUM" if declared.startswith("ENUM(") and declared.endswith(")") else declared
    if base not in _TYPES:
        raise column.refusal("does not arrive as stored")
    return _TYPES[base]
