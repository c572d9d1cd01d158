"""Any database with an ODBC driver, through arrow-odbc: the general way in, and the fast one for MySQL."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from mlops_plugin.arrow_values import holds_labels
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.database import OpenDatabase, ReadOptions
from mlops_plugin.databases.drivers.driver_errors import driver_errors, load_driver
from mlops_plugin.databases.drivers.odbc.connection_string import connection_string, driver_name
from mlops_plugin.databases.drivers.odbc.driver_manager import BIGINT, DriverManager, OdbcColumn, OdbcError
from mlops_plugin.databases.drivers.odbc.installation import driver_missing, library_missing
from mlops_plugin.databases.drivers.odbc.mysql_rules import MysqlRules
from mlops_plugin.databases.drivers.odbc.postgresql_rules import PostgresqlRules
from mlops_plugin.databases.drivers.odbc.refusals import unreadable_value
from mlops_plugin.databases.drivers.odbc.rules import OdbcRules
from mlops_plugin.databases.drivers.odbc.sqlite_rules import SqliteRules
from mlops_plugin.databases.drivers.odbc.table_columns import table_column
from mlops_plugin.databases.drivers.row_stream import CountedRows, require_names, rows_at_once, stream
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.engines.registry import MYSQL, POSTGRESQL, SQLITE, engine_named
from mlops_plugin.databases.engines.table_column import TableColumn
from mlops_plugin.databases.source_column import SourceColumn
from mlops_plugin.databases.sql_text import MARK, bare, question_marks, with_literals
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError, QueryError
from mlops_plugin.keepalive import KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S

_log = logging.getLogger(__name__)
_INSERT_ROWS = 5_000
# MariaDB's driver collects a whole result in the client before this version, whatever one asks of it.
_FIRST_STREAMING = (3, 1, 22)
_MANY_ROWS = 500_000
_RULES: Mapping[Engine, OdbcRules] = {
    MYSQL: MysqlRules(),
    POSTGRESQL: PostgresqlRules(),
    SQLITE: SqliteRules(),
}
# psqlodbc takes the encoding of PGCLIENTENCODING or of the process's locale, arrow-odbc sends UTF-8. The rest
# is the driver's own, unless a data source of the user's says otherwise.
_OF_PSQLODBC = "SET client_encoding TO 'UTF8'; SET DateStyle TO ISO; SET extra_float_digits TO 2"
# What SET NAMES sets; that, MariaDB's driver refuses.
_OF_MAODBC = ", ".join(f"character_set_{each} = utf8mb4" for each in ("client", "connection", "results"))
_NO_SUCH_TABLE = ("State: 42S02", "State: 42P01", "no such table")


class OdbcDatabase(OpenDatabase):
    """A `Database` over arrow-odbc.

    A second connection describes queries before they run: arrow-odbc cannot tell what has to be known
    about their types.
    """

    def __init__(self, spec: ConnectionSpec, options: ReadOptions) -> None:
        address, connect_s = connection_string(spec), math.ceil(options.limits.connect_s)
        if "maria" in (driver_name(spec) or "").lower() and "conn_timeout" not in address.lower():
            # Its driver waits for ever for a server that does not greet, whatever the login timeout says.
            address += f"CONN_TIMEOUT={connect_s};"
        if "maria" in (driver_name(spec) or "").lower() and "read_timeout" not in address.lower():
            # Waits that were given up end as well, and their threads with them.
            address += "READ_TIMEOUT={0};WRITE_TIMEOUT={0};".format(math.ceil(options.limits.abandoned_s))
        try:
            arrow_odbc = load_driver(spec, "arrow_odbc", "arrow-odbc")
            with driver_errors(spec, "connecting", OdbcError):
                self._manager = DriverManager(address, connect_s)
        except OSError as error:
            raise library_missing(spec) from error
        except DatabaseError as error:
            raise (driver_missing(spec, error.driver_says) or error) from error.__cause__
        self._error: type[Exception] = arrow_odbc.Error
        super().__init__(
            spec, options, engine_named(str(spec.extra.get("dialect") or self._manager.dbms_name()))
        )
        self._rules = _RULES.get(self.engine, OdbcRules())
        self._has_written = False
        self._collects = False
        self._to_describe = address
        self._undescribed: str | None = None  # why the last query's columns could not be described
        settings = self.engine.session_settings  # one request for all
        if "maodbc" in self._manager.driver_name():
            self._collects = self._manager.driver_version() < _FIRST_STREAMING
            # The data source may name another character set, in which arrow-odbc's texts are others.
            address += "CHARSET=utf8mb4;"
            settings = f"{settings}, {_OF_MAODBC}" if settings else f"SET {_OF_MAODBC}"
            # Rows pass through instead of being collected in the client first (driver 3.1.22 and later).
            address += "FORWARDONLY=1;NO_CACHE=1;"
            # Or ask to go on in a new session, without the locks and settings of the lost one.
            address += "AUTO_RECONNECT=0;"
        if "sqlite3odbc" in self._manager.driver_name():
            # The data source may do without transactions. This driver takes the first of two values.
            address = f"NoTXN=0;{address}"
        if "psqlodbc" in self._manager.driver_name():
            settings = f"{settings}; {_OF_PSQLODBC}" if settings else _OF_PSQLODBC
            # A NUMERIC without a precision would be announced as one of 28 digits, 6 of them after the point.
            address += "NumericAs=12;"
            # Likewise: a line feed would be two characters, and TRUE -1.
            address += "LFConversion=0;BoolsAsChar=1;TrueIsMinus1=0;"
            address += f"KeepaliveTime={KEEPALIVE_IDLE_S};KeepaliveInterval={KEEPALIVE_INTERVAL_S};"
            self._manager.close()
            with driver_errors(spec, "connecting", OdbcError):
                self._manager = DriverManager(address, connect_s)
            self._to_describe = address
            max_text_bytes = options.max_text_bytes
            # Text without a declared length has room for max_text_bytes, not for 255 only.
            address += f"UnknownsAsLongVarchar=1;MaxVarcharSize={max_text_bytes};"
            address += f"MaxLongVarcharSize={max_text_bytes};"
            # Rows come by a cursor; otherwise the client holds all of them.
            address += "UseDeclareFetch=1;Fetch=10000;"
        with contextlib.ExitStack() as undo, self._doing("connecting"):
            undo.callback(self._manager.close)
            self._connection: Any = arrow_odbc.connect(address, autocommit=False, login_timeout_sec=connect_s)
            if settings:
                self._connection.execute(settings)
                self._connection.commit()
            undo.pop_all()

    def read(self, query: str, *, batch_rows: int, parameters: Sequence[object] = ()) -> pa.RecordBatchReader:
        query = bare(query, self.engine.name)  # drivers put it into statements of their own
        if "?" in query and (MARK in query or not parameters):
            self._refuse_question_marks(query)
        if any(isinstance(value, bytes) for value in parameters):  # a parameter is a text
            query, parameters = with_literals(query, parameters, self._literal)
        query = question_marks(query)
        described = self._describe_columns(query)
        require_names(self.conn_id, [column.name for column in described or ()])
        for column in described or ():
            self._check_values(query, parameters, column)
        reader = self._read(query, batch_rows, parameters, described)
        if self._undescribed is not None and self.engine in _RULES:
            # It ran, so it is sound, and this engine's driver describes what is. Types that are guessed from
            # arrow-odbc's own may lose values.
            raise DatabaseError(self.conn_id, "describing the query", self._undescribed)
        return reader

    def describe(self, query: str) -> pa.Schema:
        query = bare(query, self.engine.name)
        nothing = f"SELECT * FROM (\n{query}\n) described WHERE 1 = 0"
        try:
            return self._without_labels_of_chars(self.read(nothing, batch_rows=1).schema, nothing)
        except DatabaseError:
            # Not every query can stand in brackets: some engines refuse ORDER BY or equal names there.
            self.rollback()
            return self.read(query, batch_rows=1).schema

    def _without_labels_of_chars(self, schema: pa.Schema, query: str) -> pa.Schema:
        """The schema without `LABELS` at columns that are CHARs: the driver describes an ENUM as one, too.

        A union of two CHARs is a CHAR, one of two ENUMs is not.
        """
        if not any(map(holds_labels, schema)):
            return schema
        united = self._describe_columns(f"{query} UNION ALL {query}") or ()
        chars = {column.name for column in united if column.type_name == "char"}
        return pa.schema(
            [
                field.remove_metadata() if holds_labels(field) and field.name in chars else field
                for field in schema
            ]
        )

    def _refuse_question_marks(self, query: str) -> None:
        """ODBC takes every `?` outside of a text for a parameter, and knows no way to write another one."""
        from mlops_plugin.databases.query_parts import parse_query

        if found := parse_query(query, self.engine.name).question_marks:
            raise QueryError(
                f"connection '{self.conn_id}': ODBC reads the {found[0].text} in the query as a parameter; "
                "write jsonb_exists(a, b) for a ? b, jsonb_exists_any for ?|, jsonb_exists_all for ?& and "
                "jsonb_path_exists for @?, or use a connection of type postgres"
            )

    def begin_snapshot(self) -> None:
        super().begin_snapshot()
        self._has_written = False  # the other connection may still describe queries

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        self._has_written |= not statement.startswith("SELECT ")
        with self._doing("running a statement"):
            self._connection.execute(statement, parameters=_texts(parameters))

    def insert(self, table: TableName, batches: pa.RecordBatchReader) -> int:
        self._has_written = True
        # arrow-odbc would not double a quote within a name, and takes [a] and "a" for quoted ones.
        quote = self._manager.identifier_quote()
        fields = [
            pa.field(
                quote + field.name.replace(quote, quote * 2) + quote,
                self._rules.written_type(self.conn_id, field),
            )
            for field in batches.schema
        ]
        rows = CountedRows(batches, pa.schema(fields))
        with self._doing(f"writing to {table}"):
            self._connection.insert_into_table(rows, table.quoted(self.engine), chunk_size=_INSERT_ROWS)
        return rows.count

    def columns(self, table: TableName) -> tuple[str, ...] | None:
        if query := self.engine.columns_query():
            return self._columns_by_query(query, table)
        try:
            nothing = f"SELECT * FROM {table.quoted(self.engine)} WHERE 1 = 0"
            return tuple(self._read(nothing, 1, (), None).schema.names)
        except DatabaseError as error:
            if any(sign in error.driver_says for sign in _NO_SUCH_TABLE):
                return None
            raise

    def declared_columns(self, table: TableName) -> list[TableColumn]:
        query = f"SELECT * FROM {table.quoted(self.engine)} WHERE 1 = 0"
        return [table_column(column) for column in self._describe_columns(query) or ()]

    def commit(self) -> None:
        with self._doing("committing"):
            self._connection.commit()
        self._has_written = False

    def rollback(self) -> None:
        with self._doing("rolling back"):
            self._connection.rollback()
        self._has_written = False

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(self._error):
                self._connection.rollback()
        self._connection = None  # arrow-odbc disconnects what nobody refers to any more
        self._manager.close()

    def _literal(self, value: object) -> str | None:
        return self.engine.binary_literal(value) if isinstance(value, bytes) else None

    def _doing(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return driver_errors(self._spec, doing, self._error, OdbcError)

    def _describe_columns(self, query: str) -> tuple[OdbcColumn, ...] | None:
        """What the driver says about a query's columns, or None where only this transaction could know."""
        self._undescribed = None
        if self._has_written:
            # The other connection does not see our tables yet, and might wait for our locks for ever.
            return None
        try:
            columns = self._manager.columns(query)
        except OdbcError:
            try:
                columns = self._reconnected().columns(query)
            except OdbcError as error:
                # Running it gives the better words if the query is wrong, and rows if the driver
                # describes only what has run.
                self._undescribed = self._spec.redact(str(error))
                return None
        if not columns:
            raise DatabaseError(self.conn_id, "running the query", "it returns no rows; write a SELECT")
        return columns

    def _reconnected(self) -> DriverManager:
        """The connection that describes queries, made again: its server may have ended it while rows came."""
        self._manager.close()
        self._manager = DriverManager(self._to_describe, math.ceil(self._options.limits.connect_s))
        return self._manager

    def _read(
        self,
        query: str,
        batch_rows: int,
        parameters: Sequence[object],
        described: tuple[OdbcColumn, ...] | None,
    ) -> pa.RecordBatchReader:
        delivered = [
            self._rules.delivered_type(self._described_column(column), column) for column in described or ()
        ]
        announced: list[pa.Schema] = []

        def to_fetch(schema: pa.Schema) -> pa.Schema:
            announced.append(schema)
            columns = described or [None] * len(schema)
            return pa.schema(
                [
                    pa.field(field.name, self._rules.fetched_type(column, field.type))
                    for field, column in zip(schema, columns, strict=True)
                ]
            )

        with self._doing("running the query"):
            reader = self._connection.read_arrow_batches(
                self._rules.rewrite(query, described or ()),
                batch_size=rows_at_once(len(described or ()), batch_rows),
                parameters=_texts(parameters),
                max_text_size=self._options.max_text_bytes,
                max_binary_size=self._options.max_text_bytes,
                map_schema=to_fetch,
                fetch_concurrently=False,
            )
        schema = pa.schema(
            [
                pa.field(field.name, wanted or _undescribed(field.type, before.type))
                for field, before, wanted in zip(
                    reader.schema, announced[0], delivered or [None] * len(reader.schema), strict=True
                )
            ]
        )
        for place, column in enumerate(described or ()):
            if metadata := self._rules.metadata(column):
                schema = schema.set(place, schema.field(place).with_metadata(metadata))

        columns = [
            self._described_column(column) if column else self._source_column(field.name, str(field.type))
            for field, column in zip(schema, described or [None] * len(schema), strict=True)
        ]
        return stream(columns, schema, self._batches(reader, columns, schema), batch_rows)

    def _batches(
        self, reader: Any, columns: Sequence[SourceColumn], schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        rows = 0
        try:
            with self._doing("reading rows"):
                for batch in reader:
                    if self._collects and rows < _MANY_ROWS <= rows + batch.num_rows:
                        self._warn_of_memory()
                    rows += batch.num_rows
                    yield batch
        except DatabaseError as error:
            if refusal := unreadable_value(
                error,
                columns,
                schema,
                room_bytes=self._options.max_text_bytes,
                text_bytes=self._rules.text_bytes,
            ):
                raise refusal from error
            raise

    def _described_column(self, column: OdbcColumn) -> SourceColumn:
        unsigned = " unsigned" if column.is_unsigned and column.sql_type == BIGINT else ""
        name = (column.type_name or "without a name") + unsigned
        return self._source_column(column.name, name)

    def _warn_of_memory(self) -> None:
        version = ".".join(map(str, self._manager.driver_version()))
        _log.warning(
            "connection '%s': MariaDB's ODBC driver %s holds the whole result in memory, and this one has "
            "more than %s rows; read it in pages (source.pages), install version %s or later, or use a "
            "connection of type mysql",
            self.conn_id,
            version,
            f"{_MANY_ROWS:,}",
            ".".join(map(str, _FIRST_STREAMING)),
        )

    def _columns_by_query(self, query: str, table: TableName) -> tuple[str, ...] | None:
        # Not by a query on the table: an error would end the transaction.
        found = self._read(query, 2000, (table.quoted(self.engine),), None).read_all()
        names = found.column(0).to_pylist()
        return tuple(name for name in names if name is not None) if names else None

    def _check_values(self, query: str, parameters: Sequence[object], column: OdbcColumn) -> None:
        """Look for values that a driver would silently change, if the type alone does not tell."""
        source = self._described_column(column)
        self._rules.delivered_type(source, column)
        for values in self._rules.unreadable(source, column):
            counting = f"SELECT count(*) FROM (\n{query}\n) AS checked WHERE {values.condition}"
            found = self._read(counting, 1, parameters, None).read_all()
            if int(found.column(0)[0].as_py()):
                raise source.refusal(values.reason, instead=values.instead)


def _undescribed(fetched: pa.DataType, announced: pa.DataType) -> pa.DataType:
    """The type to hand on if nothing but arrow-odbc's first choice is known."""
    if pa.types.is_decimal(fetched):
        return announced
    if pa.types.is_string(fetched):
        return announced
    return fetched


def _texts(parameters: Sequence[object]) -> list[str | None] | None:
    """Parameters as arrow-odbc takes them: text, which the engine converts to the column's type."""
    if not parameters:
        return None
    return [
        None if value is None else str(int(value)) if isinstance(value, bool) else str(value)
        for value in parameters
    ]
