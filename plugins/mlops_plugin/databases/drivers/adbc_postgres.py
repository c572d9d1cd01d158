"""PostgreSQL without ODBC: rows arrive by binary COPY through ADBC."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import pyarrow as pa

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.database import ReadOptions
from mlops_plugin.databases.drivers.adbc import AdbcDatabase, bound, load_adbc
from mlops_plugin.databases.drivers.row_stream import CountedRows, require_names, stream
from mlops_plugin.databases.engines.registry import POSTGRESQL
from mlops_plugin.databases.source_column import SourceColumn
from mlops_plugin.databases.sql_text import bare, numbered_marks
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError, UnsupportedType
from mlops_plugin.keepalive import KEEPALIVE_OF_LIBPQ
from mlops_plugin.wait_limits import Limits

# What libpq takes from extra; PostgresHook's own keys (cursor, iam, ...) are none of its business.
_LIBPQ_PREFIXES = (
    "ssl",
    "gss",
    "krb",
    "keepalives",
    "target_session_attrs",
    "application_name",
    "options",
    "channel_binding",
    "connect_timeout",
    "passfile",
    "service",
    "tcp_user_timeout",
    "require_auth",
)

_SCHEMA = (
    "SELECT CAST(n.nspname AS text) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.oid = to_regclass(?)"
)


class PostgresDatabase(AdbcDatabase):
    """A `Database` over adbc_driver_postgresql."""

    def __init__(self, spec: ConnectionSpec, options: ReadOptions) -> None:
        driver = load_adbc(spec, "adbc_driver_postgresql.dbapi", "adbc-driver-postgresql")
        super().__init__(spec, options, POSTGRESQL)
        with self._doing("connecting"):
            self._connection = driver.connect(_uri(spec, options.limits))
        # Otherwise NOW(), or a time without a zone, would mean what the server is set to.
        self.execute(str(self.engine.session_settings))
        self.commit()

    def read(self, query: str, *, batch_rows: int, parameters: Sequence[object] = ()) -> pa.RecordBatchReader:
        query = bare(query, self.engine.name)  # it will stand in a COPY
        cursor = self._reading = self._cursor()
        with self._doing("running the query"):
            self._run(cursor, query, parameters)
            reader = cursor.fetch_record_batch()
        if not reader.schema.names:
            raise DatabaseError(self.conn_id, "running the query", "it returns no rows; write a SELECT")
        columns = [self._column(field) for field in reader.schema]
        schema = self._plain_schema(reader.schema)

        def batches() -> Iterator[pa.RecordBatch]:
            with self._reading_rows():
                yield from reader
            self._finish_reading()

        return stream(columns, schema, batches(), batch_rows)

    def describe(self, query: str) -> pa.Schema:
        with contextlib.closing(self._cursor()) as cursor:
            with self._doing("describing the query"):
                schema = cursor.adbc_execute_schema(query)
            require_names(self.conn_id, schema.names)
            return self._plain_schema(schema)

    def insert(self, table: TableName, batches: pa.RecordBatchReader) -> int:
        schema = table.schema or self._schema_of(table)
        with contextlib.closing(self._cursor()) as cursor:
            target = self._target_schema(cursor, table, batches.schema)
            rows = CountedRows(batches, target)
            with self._doing(f"writing to {table}"):
                cursor.adbc_ingest(table.name, rows.reader(), mode="append", db_schema_name=schema)
        return rows.count

    def columns(self, table: TableName) -> tuple[str, ...] | None:
        # Not by a query on the table: an error would end the transaction.
        query = str(self.engine.columns_query())
        found = self.read(query, batch_rows=2000, parameters=(table.quoted(self.engine),)).read_all()
        names = found.column(0).to_pylist()
        return tuple(name for name in names if name is not None) if names else None

    def _schema_of(self, table: TableName) -> str | None:
        """Where the search path leads to; ADBC would look into its first schema only."""
        found = self._rows(_SCHEMA, (table.quoted(self.engine),), f"looking at {table}")
        return found[0]["name"] if found else None

    def _run(self, cursor: Any, statement: str, parameters: Sequence[object]) -> None:
        statement, others = numbered_marks(statement, parameters, _untyped)
        if others:
            cursor.execute(statement, bound(others))
        else:
            cursor.execute(statement)

    def _column(self, field: pa.Field) -> SourceColumn:
        name = (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
        return self._source_column(field.name, name or str(field.type))

    def _plain_schema(self, schema: pa.Schema) -> pa.Schema:
        return pa.schema([pa.field(field.name, _plain_type(self._column(field), field)) for field in schema])

    def _target_schema(self, cursor: Any, table: TableName, source: pa.Schema) -> pa.Schema:
        """The columns to be written in the table's own types: binary COPY converts nothing."""
        chosen = ", ".join(self.engine.quote(name) for name in source.names)
        with self._doing(f"writing to {table}"):
            target = cursor.adbc_execute_schema(f"SELECT {chosen} FROM {table.quoted(self.engine)}")
        return pa.schema(
            [
                pa.field(to.name, self._written_type(of.type, to))
                for of, to in zip(source, target, strict=True)
            ]
        )

    def _written_type(self, source: pa.DataType, target: pa.Field) -> pa.DataType:
        name = (target.metadata or {}).get(b"POSTGRESQL:type", b"")
        if name == b"numeric":
            if pa.types.is_decimal(source):
                return source
            if pa.types.is_integer(source):
                return pa.decimal128(20, 0)
            raise UnsupportedType(
                f"connection '{self.conn_id}': column '{target.name}' of the table is a NUMERIC, which does "
                f"not store values of type {source} exactly; make it a DOUBLE PRECISION: "
                f"ALTER COLUMN {self.engine.quote(target.name)} TYPE DOUBLE PRECISION"
            )
        if isinstance(target.type, pa.BaseExtensionType):
            return target.type.storage_type
        return target.type


def _untyped(value: object) -> str | None:
    """A text as SQL whose type the server finds, as over ODBC: bound by ADBC, it equals no UUID."""
    if not isinstance(value, str) or "\0" in value:
        return None
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'" if "\\" in value else f"'{escaped}'"


def _plain_type(column: SourceColumn, field: pa.Field) -> pa.DataType:
    """The type in which a column is handed on; refuses what ADBC hands over as raw bytes or wrong."""
    types = pa.types
    if column.type_name == "numeric":
        return _decimal(column, int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1")))
    if column.type_name in ("json", "jsonb", "uuid"):
        return pa.string()
    if column.type_name == "money":
        raise column.refusal("arrives as a bare number", instead="CAST({0} AS NUMERIC(22, 3))")
    # A "char" is one byte, of any character set, and a NUL where it is empty.
    if isinstance(field.type, pa.BaseExtensionType) or column.type_name in ("oid", "char"):
        raise column.refusal("does not arrive as stored")
    if types.is_struct(field.type):
        raise column.refusal("is a composite type, which does not arrive as stored")
    if types.is_list(field.type):
        # ADBC makes one dimension of several, and drops the bounds.
        raise column.refusal("is an array, which does not always arrive as stored")
    return field.type


def _decimal(column: SourceColumn, typmod: int) -> pa.DataType:
    # make_numeric_typmod in PostgreSQL's src/backend/utils/adt/numeric.c
    precision, scale = (typmod - 4) >> 16 & 0xFFFF, (typmod - 4) & 0x7FF
    if typmod < 0 or not scale <= precision <= 38:
        if column.is_feature:
            return pa.float64()
        size = "without a precision" if typmod < 0 else f"of {precision} digits"
        raise column.refusal(f"is one {size}, which has no exact Arrow type", is_number=True)
    return pa.decimal128(precision, scale)


def _uri(spec: ConnectionSpec, limits: Limits) -> str:
    login = quote(spec.login or "", safe="")
    if spec.password:
        login += f":{quote(spec.password, safe='')}"
    host = spec.host or ""
    address = f"[{host}]" if ":" in host else quote(host, safe=",")
    if spec.port:
        address += f":{spec.port}"
    given = {key: str(value) for key, value in spec.extra.items() if key.lower().startswith(_LIBPQ_PREFIXES)}
    options = {"connect_timeout": str(math.ceil(limits.connect_s)), **KEEPALIVE_OF_LIBPQ, **given}
    options["client_encoding"] = "UTF8"  # ADBC takes texts for UTF-8, whatever the database has
    database = quote(spec.schema or "", safe="")
    return f"postgresql://{login}@{address}/{database}?{urlencode(options, quote_via=quote)}"
