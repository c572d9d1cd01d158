"""SQLite: each value has a type of its own; a column only has an affinity."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import ClassVar

import pyarrow as pa

from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.engines.engine import CursorValue, Engine, IndexColumn
from mlops_plugin.databases.engines.merge import Merge
from mlops_plugin.databases.engines.sqlite_times import DATE, FORM, TimeComparison, checked, has_zone
from mlops_plugin.databases.engines.table_column import TableColumn
from mlops_plugin.databases.moments import utc_naive
from mlops_plugin.databases.table_name import TableName

_STEP = timedelta(milliseconds=1)
_REPLACES = re.compile(r"\bON\s+CONFLICT\s+REPLACE\b", re.IGNORECASE)


class Sqlite(Engine):
    name = "sqlite"
    parser = "sqlite"
    name_limit = 1000  # it has none of its own
    ignores_case = True
    column_types: ClassVar[Mapping[str, str]] = {
        **Engine.column_types,
        "decimal": "TEXT",  # a NUMERIC would become a double and lose digits
        "text": "TEXT",
        "key_text": "TEXT",
        "binary": "BLOB",
        "key_binary": "BLOB",
        "timestamp": "TIMESTAMP",
        "timestamp_utc": "TIMESTAMP",
    }
    max_precision = 1000
    stores_infinity = True  # but makes NULL of a NaN
    stores_nul = True
    values_have_types = True
    double_type = "REAL"
    text_type = "TEXT"
    has_limit = True
    null_order = "least"
    supports_upsert = True
    is_file = True
    stores_narrow_rows = True
    replaces_views = False

    def fold_table(self, identifier: str) -> str:
        return identifier.casefold()

    def exact_text(self, value: str) -> str:
        # As TEXT, a real would have 15 digits; even with 17, some come out as a neighbour.
        return (
            f"CASE typeof({value}) WHEN 'real' THEN printf('%!.20g', {value}) "
            f"WHEN 'blob' THEN hex({value}) ELSE CAST({value} AS TEXT) END"
        )

    def row_hash(self, columns: Sequence[str], count: int) -> str | None:
        # It has no hash function.
        numbers = " + ".join(
            f"COALESCE(CASE TYPEOF({column}) WHEN 'text' THEN UNICODE(SUBSTR({column}, -1)) "
            f"+ LENGTH({column}) ELSE CAST({column} AS INTEGER) % {count:d} END, 0)"
            for column in columns
        )
        return f"(({numbers}) % {count:d} + {count:d}) % {count:d}"

    def at_or_after(self, column: str, value: CursorValue) -> tuple[str, tuple[object, ...]]:
        """A time up to two milliseconds before `value` passes as well."""
        if isinstance(value, int):
            return f"{column} >= CAST(? AS INTEGER) OR typeof({column}) <> 'integer'", (value,)
        return f"strftime('{FORM}', {column}) >= ? OR {_no_time(column)}", (_text(value, -_STEP),)

    def within(self, column: str, start: CursorValue, end: CursorValue) -> tuple[str, tuple[object, ...]]:
        """Times are rounded to the millisecond; those without a zone are in that of an aware bound."""
        if not (isinstance(start, date) and isinstance(end, date)):
            return super().within(column, start, end)
        moment, bound = f"strftime('{FORM}', {column})", f"CASE WHEN {has_zone(column)} THEN ? ELSE ? END"
        texts = [_text(each, timedelta()) for value in (start, end) for each in (value, _on_its_clock(value))]
        return f"{moment} >= {bound} AND {moment} < {bound} OR {_no_time(column)}", tuple(texts)

    def checked_comparison(self, comparison: str, sides: Sequence[TimeComparison], number: int) -> str | None:
        return checked(comparison, sides, number)

    def alteration(self, table: str, column: str, wanted: str, view: str | None = None) -> str:
        del table, view
        return f"create a new table with {column} {wanted} (SQLite cannot change a column's type)"

    def table_columns(self, database: Database, table: TableName) -> list[TableColumn]:
        found = read_rows(database, _COLUMNS, _place(table))
        return [
            TableColumn(name, kind or "without a type", affinity(kind), refuses_null=refuses_null != "0")
            for name, kind, refuses_null in found
        ]

    def unique_columns(self, database: Database, table: TableName) -> Iterator[IndexColumn]:
        for index, column in read_rows(database, _UNIQUE, _place(table) * 2):
            yield index, column, False

    def view_holds(self, database: Database, table: TableName, text: str) -> bool | None:
        views = f"{self.quote(table.schema or 'main')}.sqlite_master WHERE type = 'view'"
        query = f"SELECT INSTR(sql, ?) > 0 AS is_held FROM {views} AND name = ? COLLATE NOCASE"
        found = read_rows(database, query, [text, table.name])
        return bool(found[0][0]) if found else None

    def beside_key(self, column: str) -> str:
        # Of a column as it is, SQLite makes a join that goes through all dispatches for each key.
        return f"COALESCE({column}, '')"

    def within_view(self, table: TableName) -> TableName:
        # With "main." in it, the file could not be read where it is attached by another name.
        return TableName(table.name)

    def text_conversions(self, database: Database, table: TableName) -> dict[str, str]:
        columns = self.table_columns(database, table)
        return {self.fold(column.name): "{}" for column in columns if column.kind in ("text", "none")}

    def key_bytes(self, value: str) -> str | None:
        # No cast, which would make another value of a number in a column without a type.
        return f"{value} COLLATE BINARY"

    def begin_write(self, table: str) -> list[str]:
        # A transaction that begins by reading cannot wait for its turn to write.
        return [f"DELETE FROM {table} WHERE 1 = 0"]

    def replaces_rows(self, database: Database, table: TableName) -> bool:
        # A unique key may be declared ON CONFLICT REPLACE, which only the text of the table says.
        tables = f"{self.quote(table.schema or 'main')}.sqlite_master WHERE type = 'table'"
        query = f"SELECT sql FROM {tables} AND name = ? COLLATE NOCASE"
        return any(_REPLACES.search(text) for (text,) in read_rows(database, query, [table.name]))

    def stage_name(self, table: TableName, name: str) -> TableName:
        del table
        return TableName(name, "temp")

    def merge(self, merge: Merge) -> list[str]:
        if merge.is_unique:
            return [merge.insert_on_conflict()]
        key = ", ".join(merge.key)
        return [f"DELETE FROM {merge.table} WHERE ({key}) IN (SELECT {key} FROM {merge.stage})", merge.insert]


def affinity(declared: str | None) -> str:
    """How SQLite converts what is put into a column: integer, text, none, real or numeric."""
    # https://www.sqlite.org/datatype3.html#determination_of_column_affinity
    name = (declared or "").upper()
    if "INT" in name:
        return "integer"
    if any(word in name for word in ("CHAR", "CLOB", "TEXT")):
        return "text"
    if "BLOB" in name or not name:
        return "none"
    return "real" if any(word in name for word in ("REAL", "FLOA", "DOUB")) else "numeric"


def declared_type(declared: str) -> pa.DataType:
    """The Arrow type to expect in a column without a value, by the type that its table declares."""
    # https://www.sqlite.org/datatype3.html#determination_of_columndeclared_type
    name = declared.upper()
    if "INT" in name:
        return pa.int64()
    if any(word in name for word in ("CHAR", "CLOB", "TEXT", "DATE", "TIME")):
        return pa.string()
    if "BLOB" in name:
        return pa.binary()
    if any(word in name for word in ("REAL", "FLOA", "DOUB", "NUM", "DEC")):
        return pa.float64()
    return pa.int64()


def stored_type(arrow_type: pa.DataType) -> pa.DataType:
    """The Arrow type in which SQLite holds values of another one: it has no booleans, times or decimals."""
    types = pa.types
    if types.is_boolean(arrow_type):
        return pa.int64()
    if types.is_temporal(arrow_type) or types.is_decimal(arrow_type):
        return pa.string()
    if types.is_dictionary(arrow_type):
        return stored_type(arrow_type.value_type)
    return arrow_type


def _no_time(column: str) -> str:
    """The condition that a (quoted) column holds what SQLite does not read as a time."""
    return f"typeof({column}) <> 'text' OR {column} NOT GLOB '{DATE}' OR strftime('{FORM}', {column}) IS NULL"


def _on_its_clock(value: date) -> date:
    """A time as the clocks of its zone show it, without the zone."""
    return value.replace(tzinfo=None, fold=0) if isinstance(value, datetime) else value


def _place(table: TableName) -> list[str]:
    return [table.name, table.schema or "main"]


def _text(value: date, shift: timedelta) -> str:
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    utc = utc_naive(moment)
    with contextlib.suppress(OverflowError):  # the first or the last moment there is
        utc += shift
    return utc.isoformat(" ", "milliseconds")


# As text: the ODBC driver knows no type of a pragma's column.
_COLUMNS = (
    'SELECT name, type AS declared, CAST("notnull" AS TEXT) AS refuses_null FROM pragma_table_info(?, ?)'
)
# The primary key of a table with an INTEGER PRIMARY KEY is in no index.
_UNIQUE = """
SELECT l.name AS name, c.name AS col
FROM pragma_index_list(?, ?) l CROSS JOIN pragma_index_info(l.name) c
WHERE l."unique" = 1 AND l.partial = 0
UNION ALL
SELECT '', name FROM pragma_table_info(?, ?) WHERE pk > 0
"""
