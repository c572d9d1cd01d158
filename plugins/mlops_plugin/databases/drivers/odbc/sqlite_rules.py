"""What SQLite's ODBC driver changes on the way: most things; a connection of type sqlite does not."""

from __future__ import annotations

import pyarrow as pa

from mlops_plugin.databases.drivers.odbc.driver_manager import OdbcColumn
from mlops_plugin.databases.drivers.odbc.rules import OdbcRules, Unreadable
from mlops_plugin.databases.engines.sqlite import stored_type
from mlops_plugin.databases.source_column import SourceColumn
from mlops_plugin.errors import UnsupportedType

# Types that arrive as stored, if the values are what the column declares.
_INTEGERS = frozenset({-25, -7, -6, -5, 4, 5})
_TEXTS = frozenset({"text", "varchar", "char", "clob", "nvarchar", "nchar"})
_BYTES = "CASE WHEN {0} IS NOT NULL THEN hex({0}) END"  # of text, as text


class SqliteRules(OdbcRules):
    text_bytes = _BYTES

    def delivered_type(self, source: SourceColumn, column: OdbcColumn) -> pa.DataType | None:
        super().delivered_type(source, column)
        is_text = column.type_name.partition("(")[0] in _TEXTS
        if column.sql_type not in _INTEGERS and not is_text:
            raise source.refusal(
                "is changed by SQLite's ODBC driver: use a connection of type sqlite instead"
            )
        return None

    def is_inexact(self, column: OdbcColumn) -> bool:
        del column
        return False  # `delivered_type` refuses every decimal

    def fetched_type(self, column: OdbcColumn | None, announced: pa.DataType) -> pa.DataType:
        return pa.int64() if pa.types.is_boolean(announced) else super().fetched_type(column, announced)

    def written_type(self, conn_id: str, field: pa.Field) -> pa.DataType:
        # The driver makes 128 of a byte -128, pads bytes with zeros and cuts microseconds.
        stored = stored_type(field.type)
        if pa.types.is_binary(stored):
            raise UnsupportedType(
                f"connection '{conn_id}': column '{field.name}' of type {field.type} is changed by SQLite's "
                "ODBC driver: use a connection of type sqlite instead, or make it text in the query, e.g. "
                "with hex()"
            )
        return pa.int64() if pa.types.is_integer(stored) else stored

    def unreadable(self, source: SourceColumn, column: OdbcColumn) -> list[Unreadable]:
        name = source.engine.enclose(column.name)
        if column.sql_type in _INTEGERS:
            return [
                Unreadable(
                    f"typeof({name}) NOT IN ('integer', 'null')", "holds a value that is not an integer"
                )
            ]
        return [
            Unreadable(f"typeof({name}) NOT IN ('text', 'null')", "holds a value that is not text"),
            Unreadable(
                f"length(CAST({name} AS BLOB)) > {column.length}", f"is longer than {column.length} bytes"
            ),
            Unreadable(
                f"instr({name}, char(0)) > 0",
                "holds a NUL character, at which the driver cuts it off",
                _BYTES,
            ),
        ]
